use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;

use super::SessionError;
use crate::data::{Fit, Preprocess};
use crate::download::{self, Remote};
use crate::weights;
use crate::zoo::ModelId;

/// Weights that torchvision publishes for a model, trained on ImageNet; `assets/torchvision_weights.toml` lists them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PublishedWeights {
    /// Of which architecture.
    pub model: ModelId,
    /// torchvision's name of them: `IMAGENET1K_V1`.
    pub entry: String,
    /// The file's name.
    pub file: String,
    /// About its length, in units of 1,048,576 bytes.
    pub mebibytes: f64,
    /// The first hex digits of its SHA-256.
    pub sha256: String,
    /// Accuracy on ImageNet's validation images, in percent.
    pub top1: f64,
    /// What the shorter side of an image is resized to.
    pub resize: usize,
    /// The square that is then cropped from its centre.
    pub size: usize,
    /// Subtracted from each channel in 0..1.
    #[serde(skip)]
    pub mean: [f32; 3],
    /// Then divides it.
    #[serde(skip)]
    pub std: [f32; 3],
    /// Where the file is.
    #[serde(skip)]
    pub address: String,
}

impl PublishedWeights {
    /// About the file's length in bytes.
    pub fn bytes(&self) -> u64 {
        (self.mebibytes * f64::from(1 << 20)).round() as u64
    }

    /// As `download` takes it.
    pub fn remote(&self) -> Remote {
        Remote {
            name: self.file.clone(),
            address: self.address.clone(),
            sha256: self.sha256.clone(),
            bytes: self.bytes(),
        }
    }

    /// How images become numbers under these weights, where nothing else is said, for data whose own way is `data`:
    /// pictures as ImageNet's were, small images (of the sample, of CIFAR-10) at the size that they have.
    pub fn preprocess(&self, data: Preprocess) -> Preprocess {
        let Self { mean, std, .. } = *self;
        match data.fit {
            Fit::Crop => Preprocess { size: self.size, resize: Some(self.resize), fit: Fit::Crop, mean, std },
            Fit::Pad | Fit::Squash => Preprocess { mean, std, ..data },
        }
    }
}

/// All that is published, in the order of the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Catalog {
    base: String,
    mean: [f32; 3],
    std: [f32; 3],
    weights: Vec<PublishedWeights>,
}

impl Catalog {
    /// Reads a table of the form of `assets/torchvision_weights.toml`; `base` takes the place of its address.
    ///
    /// # Errors
    /// One sentence that says what is wrong in the table.
    pub fn parse(text: &str, base: Option<&str>) -> Result<Self, String> {
        let mut catalog: Self =
            toml::from_str(text).map_err(|e| weights::legible(&e.to_string().trim_end().replace('\n', " ")))?;
        if let Some(base) = base {
            catalog.base = base.to_owned();
        }
        check_address(&catalog.base)?;
        let Self { base, mean, std, weights } = &mut catalog;
        for row in weights {
            if Path::new(&row.file).file_name().is_none_or(|name| name != row.file.as_str()) {
                return Err(format!("`{}` is no name of a file", row.file));
            }
            let digits = !row.sha256.is_empty() && row.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !digits {
                return Err(format!("{}: `{}` is not the beginning of a SHA-256", row.file, row.sha256));
            }
            (row.mean, row.std) = (*mean, *std);
            row.address = format!("{}/{}", base.trim_end_matches('/'), row.file);
        }
        Ok(catalog)
    }

    /// What is published for `model`, torchvision's default first.
    pub fn of(&self, model: ModelId) -> impl Iterator<Item = &PublishedWeights> {
        self.weights.iter().filter(move |row| row.model == model)
    }

    /// The published weights that the file at `path` holds: by its name, and by its hash, since a name proves nothing.
    pub fn recognize(&self, model: ModelId, path: &Path) -> Option<&PublishedWeights> {
        let name = path.file_name()?.to_str()?;
        let row = self.of(model).find(|row| row.file == name)?;
        // A file that cannot be read is an error of whoever reads it next.
        download::has_hash(path, &row.sha256).unwrap_or(false).then_some(row)
    }
}

fn check_address(base: &str) -> Result<(), String> {
    if base.starts_with("https://") || base.starts_with("http://") {
        return Ok(());
    }
    Err(format!("the address `{base}` begins with neither https:// nor http://"))
}

/// The table in the program; `OCTET_WEIGHTS_TABLE` names another, `OCTET_WEIGHTS_URL` another server with the same files.
///
/// # Errors
/// [`SessionError::WeightsTable`] where a variable names something else.
pub fn catalog() -> Result<&'static Catalog, SessionError> {
    static CATALOG: LazyLock<Result<Catalog, (String, String)>> = LazyLock::new(|| {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let base = var("OCTET_WEIGHTS_URL").map(|url| url.to_string_lossy().into_owned());
        if let Some(base) = &base {
            check_address(base).map_err(|detail| ("OCTET_WEIGHTS_URL".to_owned(), detail))?;
        }
        let built_in = include_str!("../../assets/torchvision_weights.toml");
        let (path, text) = match var("OCTET_WEIGHTS_TABLE").map(PathBuf::from) {
            None => ("assets/torchvision_weights.toml".to_owned(), built_in.to_owned()),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(&path).map_err(|e| (name.clone(), e.to_string()))?;
                (name, text)
            }
        };
        Catalog::parse(&text, base.as_deref()).map_err(|detail| (path, detail))
    });
    CATALOG.as_ref().map_err(|(path, detail)| SessionError::WeightsTable { path: path.clone(), detail: detail.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("../../assets/torchvision_weights.toml");

    fn table() -> Catalog {
        Catalog::parse(TABLE, None).expect("the table in the program")
    }

    #[test]
    fn every_model_of_the_zoo_has_weights_under_torchvisions_names() {
        let catalog = table();
        for model in ModelId::ALL {
            let rows: Vec<_> = catalog.of(model).collect();
            assert!(!rows.is_empty(), "{model}");
            for row in rows {
                assert!(row.file.contains(&format!("-{}.pth", row.sha256)), "{}", row.file);
                assert_eq!(row.address, format!("https://download.pytorch.org/models/{}", row.file));
                assert!((50.0..90.0).contains(&row.top1) && row.resize >= row.size, "{}", row.file);
                // A file of float32 parameters at 1,000 classes, running statistics and names besides.
                let config = crate::zoo::ModelConfig { classes: 1000, size: row.size };
                let least = 4 * crate::zoo::build(model, config).expect("a model").param_count() as u64;
                assert!((least..least + least / 20 + 400_000).contains(&row.bytes()), "{}: {least}", row.file);
            }
        }
        assert_eq!(
            catalog.of(ModelId::ResNet50).map(|r| r.entry.as_str()).collect::<Vec<_>>(),
            ["IMAGENET1K_V2", "IMAGENET1K_V1"]
        );
    }

    #[test]
    fn another_server_takes_the_place_of_the_address() {
        let catalog = Catalog::parse(TABLE, Some("http://localhost:8000/mirror/")).expect("the table");
        let row = catalog.of(ModelId::ResNet18).next().expect("published");
        assert_eq!(row.address, "http://localhost:8000/mirror/resnet18-f37072fd.pth");
        assert!(Catalog::parse(TABLE, Some("localhost")).is_err_and(|e| e.contains("`localhost`")));
    }

    #[test]
    fn a_table_cannot_write_outside_the_cache_folder() {
        for name in ["../resnet18-f37072fd.pth", "/tmp/resnet18-f37072fd.pth", "..", ""] {
            let odd = TABLE.replace("\"resnet18-f37072fd.pth\"", &format!("\"{name}\""));
            assert!(Catalog::parse(&odd, None).is_err_and(|e| e.contains("no name")), "{name}");
        }
        let odd = TABLE.replace("\"f37072fd\"", "\"\"");
        assert!(Catalog::parse(&odd, None).is_err_and(|e| e.contains("SHA-256")));
    }

    #[test]
    fn a_file_is_recognized_by_its_hash_and_not_by_its_name_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("resnet18-f37072fd.pth");
        std::fs::write(&path, "abc").expect("a file");
        assert_eq!(table().recognize(ModelId::ResNet18, &path), None);
        let abc = Catalog::parse(&TABLE.replace("\"f37072fd\"", "\"ba7816bf\""), None).expect("a table");
        assert_eq!(abc.recognize(ModelId::ResNet18, &path).map(|r| r.resize), Some(256));
        assert_eq!(abc.recognize(ModelId::ResNet34, &path), None);
        assert_eq!(abc.recognize(ModelId::ResNet18, &dir.path().join("missing.pth")), None);
    }

    #[test]
    fn small_images_keep_their_size_and_pictures_become_imagenets() {
        let row = table().of(ModelId::EfficientNetV2S).next().cloned().expect("published");
        let pictures = row.preprocess(Preprocess::new(224, Fit::Crop));
        assert_eq!((pictures.size, pictures.resize, pictures.fit), (384, Some(384), Fit::Crop));
        let small = row.preprocess(Preprocess { mean: [0.0; 3], ..Preprocess::new(32, Fit::Pad) });
        assert_eq!((small.size, small.resize, small.mean), (32, None, Preprocess::IMAGENET_MEAN));
    }
}

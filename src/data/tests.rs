use std::{
    fs,
    path::{Path, PathBuf},
};

use super::*;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A PNG, JPEG, WebP or BMP file of one colour, by its ending.
fn picture(path: &Path, width: u32, height: u32, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
    ::image::RgbImage::from_pixel(width, height, ::image::Rgb(colour)).save(path).expect("an image");
}

fn open(path: &Path) -> Result<Dataset, DataError> {
    Dataset::open(&Source::Path(path.to_owned()), 0)
}

fn message<T: std::fmt::Debug>(result: Result<T, DataError>) -> String {
    let message = result.expect_err("an error").to_string();
    assert!(!message.contains('\n'), "one sentence: {message}");
    message
}

fn labels(split: &Split) -> Vec<usize> {
    (0..split.len()).map(|i| split.label(i).expect("a label")).collect()
}

#[test]
fn resizing_is_pillows_to_one_level() {
    let photo = Image::open(&fixture("photo.png")).expect("an image");
    for fit in Fit::ALL {
        let ours = Preprocess::new(32, fit).fit(&photo);
        let pillows = Image::open(&fixture(&format!("photo.{fit}.png"))).expect("an image");
        assert_eq!((ours.width, ours.height), (32, 32), "{fit}");
        let worst = ours.rgb.iter().zip(&pillows.rgb).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(1), "{fit}: {worst:?} levels");
    }
}

#[test]
fn exif_orientation_is_honoured() {
    let image = Image::open(&fixture("turned.jpg")).expect("an image");
    assert_eq!((image.width, image.height), (16, 24));
    let (first, last) = (&image.rgb[..3], &image.rgb[image.rgb.len() - 3..]);
    assert!(first[0] > 200 && first[2] < 60 && last[2] > 200 && last[0] < 60, "{first:?} {last:?}");
}

#[test]
fn values_are_normalized_plane_by_plane() {
    let image = Image { width: 1, height: 1, rgb: vec![0, 51, 255] };
    let p = Preprocess { mean: [0.5, 0.0, 0.0], std: [0.5, 1.0, 2.0], ..Preprocess::new(1, Fit::Squash) };
    assert_eq!(p.apply(&image), [-1.0, 0.2, 0.5]);
    for fit in Fit::ALL {
        let long = Image::black(1, 5000);
        assert_eq!(Preprocess::new(8, fit).apply(&long).len(), 3 * 64, "{fit}");
    }
    for bad in
        [Preprocess { size: 0, ..p }, Preprocess { std: [1.0, 0.0, 1.0], ..p }, Preprocess { mean: [f32::NAN; 3], ..p }]
    {
        assert!(message(bad.check()).starts_with("preprocessing"));
    }
    assert_eq!("pad".parse::<Fit>().expect("a fit"), Fit::Pad);
    assert!(message("stretch".parse::<Fit>()).contains("crop, pad or squash"));
}

#[test]
fn class_folders_are_divided_by_class() {
    let root = folder();
    for (class, count, ending) in [("cat", 10, "png"), ("bird", 5, "jpg"), ("ant", 4, "webp"), ("dog", 6, "bmp")] {
        for i in 0..count {
            picture(&root.path().join(class).join(format!("{i}.{ending}")), 9, 7, [i as u8; 3]);
        }
    }
    fs::write(root.path().join("cat/notes.txt"), "no image").expect("a file");
    fs::write(root.path().join(".hidden"), "").expect("a file");
    picture(&root.path().join("loose.png"), 2, 2, [0; 3]);
    let data = open(root.path()).expect("a folder of classes");
    assert_eq!(data.labels, ["ant", "bird", "cat", "dog"]);
    assert!(data.labelled);
    assert_eq!(labels(&data.valid), [1, 2, 2, 3], "a fifth of each class, too small ones not at all");
    assert_eq!(data.train.len(), 21);
    assert_eq!(data.skipped.len(), 2, "{:?}", data.skipped);
    let names = |d: &Dataset| (0..d.valid.len()).map(|i| d.valid.name(i)).collect::<Vec<_>>();
    assert_eq!(names(&data), names(&open(root.path()).expect("again")), "the same seed, the same split");
    assert!((0..data.train.len()).all(|i| !names(&data).contains(&data.train.name(i))), "no image is in both");
    assert_eq!(data.preprocess(), Preprocess::new(224, Fit::Crop));
}

#[test]
fn given_splits_are_kept() {
    for held_out in ["valid", "val", "test"] {
        let root = folder();
        picture(&root.path().join("train/a/0.png"), 3, 3, [0; 3]);
        picture(&root.path().join("train/b/0.png"), 3, 3, [0; 3]);
        picture(&root.path().join(held_out).join("b/0.PNG"), 3, 3, [0; 3]);
        let data = open(root.path()).expect("two splits");
        assert_eq!((labels(&data.train), labels(&data.valid)), (vec![0, 1], vec![1]), "{held_out}");
        picture(&root.path().join(held_out).join("c/0.png"), 3, 3, [0; 3]);
        assert!(message(open(root.path())).contains("`c`"));
    }
}

#[test]
fn a_flat_folder_has_no_labels() {
    let root = folder();
    picture(&root.path().join("a.png"), 3, 3, [0; 3]);
    picture(&root.path().join("b.jpeg"), 3, 3, [0; 3]);
    let data = open(root.path()).expect("two images");
    assert!(!data.labelled && data.labels.is_empty() && data.valid.is_empty());
    assert_eq!((data.train.len(), data.train.label(0)), (2, None));
    let batch = data.train.batches(vec![0, 1], 2, &Preprocess::new(8, Fit::Pad), None).next().expect("a batch");
    assert_eq!((batch.len(), batch.labels.len()), (2, 0));
}

#[test]
fn what_holds_no_images_is_named() {
    let root = folder();
    let name = root.path().display().to_string();
    assert!(message(open(root.path())).contains(&name));
    assert!(message(open(&root.path().join("none"))).contains("none"));
    fs::write(root.path().join("x.bin"), [0; 100]).expect("a file");
    let error = message(open(&root.path().join("x.bin")));
    assert!(error.contains("x.bin") && error.contains("3073"), "{error}");
    let mut record = vec![0; 3073];
    record[0] = 10;
    fs::write(root.path().join("x.bin"), &record).expect("a file");
    assert!(message(open(&root.path().join("x.bin"))).contains("label 10"));
}

#[test]
fn unreadable_images_are_named_counted_and_skipped() {
    let root = folder();
    for i in 0..4 {
        picture(&root.path().join(format!("a/{i}.png")), 5, 5, [i; 3]);
    }
    let whole = fs::read(root.path().join("a/1.png")).expect("a file");
    fs::write(root.path().join("a/1.png"), &whole[..whole.len() / 2]).expect("a file");
    fs::write(root.path().join("a/2.png"), "no image at all").expect("a file");
    let data = open(root.path()).expect("a folder");
    let batch = data.train.batches((0..4).collect(), 4, &Preprocess::new(4, Fit::Crop), None).next().expect("a batch");
    assert_eq!((batch.indices.as_slice(), batch.labels.as_slice()), (&[0, 3][..], &[0, 0][..]));
    assert_eq!(batch.images.len(), 2 * 3 * 16);
    assert_eq!(batch.skipped.len(), 2);
    assert!(batch.skipped[0].name.ends_with("1.png") && batch.skipped[1].reason.contains("2.png"));
}

#[test]
fn cifar_files_are_read() {
    let root = folder();
    let record = |label: u8| [vec![label], vec![1; 1024], vec![2; 1024], vec![3; 1024]].concat();
    let file: Vec<u8> = (0..10).flat_map(|i| record(i % 2)).collect();
    fs::write(root.path().join("data_batch_1.bin"), &file).expect("a file");
    let data = open(&root.path().join("data_batch_1.bin")).expect("one file");
    assert_eq!((data.train.len(), data.valid.len(), data.labels.len()), (8, 2, 10));
    fs::write(root.path().join("test_batch.bin"), record(9)).expect("a file");
    let data = open(root.path()).expect("a folder");
    assert_eq!((data.train.len(), labels(&data.valid)), (10, vec![9]));
    let image = data.valid.image(0).expect("an image");
    assert_eq!((image.width, image.height, &image.rgb[..6]), (32, 32, &[1, 2, 3, 1, 2, 3][..]));
}

#[test]
fn the_sample_is_balanced_and_padded() {
    let data = Dataset::open(&Source::Sample, 7).expect("the sample");
    assert_eq!((data.train.len(), data.valid.len(), data.labels.len()), (6000, 2500, 10));
    for (split, each) in [(&data.train, 600), (&data.valid, 250)] {
        let all = labels(split);
        assert!((0..10).all(|c| all.iter().filter(|l| **l == c).count() == each));
    }
    let image = data.train.image(5999).expect("an image");
    assert_eq!((image.width, image.height), (32, 32));
    assert_eq!(data.preprocess().fit(&image), image, "padding to 32 is the identity");
    assert!(image.rgb[..2 * 32 * 3].iter().all(|v| *v == 0) && image.rgb.iter().any(|v| *v > 100));
    assert!(image.rgb.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
}

#[test]
fn fashion_mnist_is_read_from_its_four_files() {
    let root = folder();
    let write = |name: &str, shape: &[u32], values: &[u8]| {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|s| bytes.extend(s.to_be_bytes()));
        bytes.extend(values);
        fs::write(root.path().join(name), bytes).expect("a file");
    };
    for (part, count) in [("train", 3), ("t10k", 2)] {
        write(&format!("{part}-images-idx3-ubyte"), &[count, 28, 28], &vec![9; count as usize * 784]);
        write(&format!("{part}-labels-idx1-ubyte"), &[count], &vec![8; count as usize]);
    }
    let data = open(root.path()).expect("four files");
    assert_eq!((data.train.len(), labels(&data.valid)), (3, vec![8, 8]));
    write("t10k-labels-idx1-ubyte", &[3], &[1, 2, 3]);
    assert!(message(open(root.path())).contains("3 labels for 2 images"));
    write("t10k-labels-idx1-ubyte", &[2], &[1]);
    assert!(message(open(root.path())).contains("t10k-labels"));
}

#[test]
fn batches_come_in_order_and_cover_everything() {
    let data = Dataset::open(&Source::Sample, 0).expect("the sample");
    let order = shuffled(300, 3);
    let preprocess = data.preprocess();
    let mut seen = Vec::new();
    let batches = data.train.batches(order.clone(), 64, &preprocess, None);
    assert_eq!(batches.len(), 5);
    for batch in batches {
        assert_eq!(batch.images.len(), batch.len() * 3 * 32 * 32);
        let first = data.train.image(batch.indices[0]).expect("an image");
        assert_eq!(batch.images[..3 * 32 * 32], preprocess.apply(&first)[..]);
        assert!(batch.indices.iter().zip(&batch.labels).all(|(i, l)| data.train.label(*i) == Some(*l)));
        seen.extend(batch.indices);
    }
    assert_eq!(seen, order);
    assert_eq!(data.train.batches(Vec::new(), 64, &preprocess, None).count(), 0);
    // Dropped half way: this returns, since the workers stop.
    drop(data.train.batches((0..6000).collect(), 8, &preprocess, None).next());
}

#[test]
fn shuffles_are_seeded_permutations() {
    let mut order = shuffled(1000, 1);
    assert_eq!(order, shuffled(1000, 1));
    assert_ne!(order, shuffled(1000, 2));
    order.sort_unstable();
    assert!(order.into_iter().eq(0..1000));
}

#[test]
fn augmentation_flips_and_shifts_by_its_seed() {
    let rgb = (0..12u8).flat_map(|v| [v; 3]).collect();
    let image = Image { width: 4, height: 3, rgb };
    let grey = |i: &Image| i.rgb.iter().step_by(3).copied().collect::<Vec<u8>>();
    let none = Augment { flip: false, shift: 0, seed: 1 };
    assert!((0..20).all(|i| none.apply(&image, i) == image));
    let flip = Augment { flip: true, ..none };
    let flipped = (0..100).filter(|i| grey(&flip.apply(&image, *i)) == [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]).count();
    let kept = (0..100).filter(|i| flip.apply(&image, *i) == image).count();
    assert!(flipped + kept == 100 && (30..70).contains(&flipped), "{flipped}");
    let shift = Augment { shift: 1, ..none };
    let moved: Vec<Vec<u8>> = (0..100).map(|i| grey(&shift.apply(&image, i))).collect();
    assert!(moved.contains(&vec![5, 4, 5, 6, 1, 0, 1, 2, 5, 4, 5, 6]), "one to the right, one down, reflected");
    assert_eq!(moved.iter().collect::<std::collections::HashSet<_>>().len(), 9);
    let far = Augment { shift: 50, flip: true, seed: 2 };
    assert!((0..50).all(|i| far.apply(&image, i).rgb.len() == image.rgb.len()), "more than the image is wide");
    assert_ne!((0..20).map(|i| far.apply(&image, i)).collect::<Vec<_>>(), vec![image; 20]);
}

#[test]
fn a_shorter_side_of_ones_own_is_cropped_from_the_middle() {
    // Ten columns a stripe: what the crop keeps tells how far the image was resized.
    let image =
        Image { width: 100, height: 100, rgb: (0..10_000).flat_map(|i| [(i % 100 / 10 * 25) as u8; 3]).collect() };
    let fitted = |resize| Preprocess { resize, ..Preprocess::new(50, Fit::Crop) }.fit(&image);
    let ends = |resize| (fitted(resize).rgb[0], fitted(resize).rgb[49 * 3]);
    assert_eq!(ends(Some(50)), (0, 225), "the whole image");
    assert_eq!(ends(Some(100)), (50, 175), "its middle half");
    assert_eq!(fitted(None), fitted(Some(50 * 256 / 224)));
    let error = message(Preprocess { resize: Some(49), ..Preprocess::new(50, Fit::Crop) }.check());
    assert!(error.contains("49") && error.contains("50"), "{error}");
    // Files written before there was such a thing read as before, and are still written the same.
    let plain = serde_json::to_value(Preprocess::new(224, Fit::Crop)).expect("JSON");
    assert!(plain.get("resize").is_none());
    assert_eq!(serde_json::from_value::<Preprocess>(plain).expect("read"), Preprocess::new(224, Fit::Crop));
}

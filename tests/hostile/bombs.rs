//! Files that are small and claim to be large: each is refused, or read, within its bound of memory and time.

use std::fs;
use std::path::Path;

use octet::Int8Model;
use octet::data::{Dataset, Fit, Image, Preprocess, Source};
use octet::export::onnx;
use octet::graph::{Builder, ConvSpec, Op, Shape};
use octet::weights;
use zip::CompressionMethod;

use crate::graphs::{self, converted, filled, fixture};
use crate::pickles::{Entries, unzip, zip};
use crate::readers::{Kind, open};
use crate::seeds::{self, Seed};
use crate::trial::{Folder, Room, alone, watched};

/// Opens `bytes` as `kind` (the test is alone: memory is counted), within the bound that the kind has, or `bound` where that says less; why it was refused.
fn refused(kind: Kind, name: &'static str, bytes: Vec<u8>, bound: Option<usize>) -> String {
    let folder = Folder::new();
    let seed = Seed { name, bytes };
    let mut error = None;
    let room = Room { bytes: bound.unwrap_or(4 * seed.bytes.len() + kind.room()) };
    let broke = watched(room, || error = open(kind, &seed, folder.path()).error);
    assert_eq!(broke, None, "{name}");
    error.unwrap_or_else(|| panic!("{name} was opened"))
}

fn with_pickle(pickle: Vec<u8>) -> Vec<u8> {
    let mut entries = unzip(&fixture("zip.pth")).expect("PyTorch's archive");
    entries.iter_mut().find(|(name, _)| name.ends_with("data.pkl")).expect("its pickle").1 = pickle;
    zip(&entries, CompressionMethod::Deflated).expect("an archive")
}

#[test]
fn a_pickle_that_makes_objects_without_end() {
    let _alone = alone();
    for instruction in [b"N".as_slice(), b"N\x94", b"]", b"(", b")\x85", b"\x882", b"G\0\0\0\0\0\0\0\0"] {
        let pickle = instruction.repeat(12_000_000 / instruction.len());
        let error = refused(Kind::Torch, "many.pth", with_pickle(pickle), Some(128 << 20));
        assert!(error.contains("instructions"), "{error}");
    }
}

#[test]
fn a_pickle_that_is_longer_than_any() {
    let _alone = alone();
    let error = refused(Kind::Torch, "long.pth", with_pickle(vec![b'N'; 40 << 20]), Some(64 << 20));
    assert!(error.contains("longer than the 16777216 bytes"), "{error}");
}

/// A storage's name of half a megabyte, which ten thousand storages repeat: each copy was kept.
#[test]
fn a_long_name_that_is_referred_to_again_and_again() {
    let _alone = alone();
    let mut pickle = b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
    pickle.push(b'X');
    pickle.extend(500_000_u32.to_le_bytes());
    pickle.extend(vec![b'7'; 500_000]);
    pickle.extend(b"X\x03\0\0\0cpuK\x01tq\0");
    pickle.extend(b"Qh\0".repeat(10_000));
    pickle.extend(b"Q.");
    let error = refused(Kind::Torch, "names.pth", with_pickle(pickle), Some(16 << 20));
    assert!(error.contains("no storage"), "{error}");
}

/// A storage of 400 MB out of 400 KB that are compressed.
#[test]
fn storages_that_inflate() {
    let _alone = alone();
    let floats = 100_000_000_u32;
    let mut pickle = b"\x80\x02}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    pickle.extend(b"ctorch\nFloatStorage\nX\x01\0\0\0\x30X\x03\0\0\0cpuJ");
    pickle.extend(floats.to_le_bytes());
    // Ten of its values are wanted.
    pickle.extend(b"tQK\0K\x0a\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRu.");
    let entries: Entries =
        vec![("a/data.pkl".to_owned(), pickle), ("a/data/0".to_owned(), vec![0; 4 * floats as usize])];
    let bytes = zip(&entries, CompressionMethod::Deflated).expect("an archive");
    drop(entries);
    assert!(bytes.len() < 1 << 20);
    let error = refused(Kind::Torch, "inflates.pth", bytes, Some(16 << 20));
    assert!(error.contains("longer than the file"), "{error}");
}

/// A view of stride 0, a thousand million times the same number.
#[test]
fn a_tensor_that_expands() {
    let _alone = alone();
    let mut pickle = b"\x80\x02}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    pickle.extend(b"ctorch\nFloatStorage\nX\x01\0\0\0\x30X\x03\0\0\0cpuK\x01tQK\0J\0\0\0\x40\x85K\0\x85");
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtRu.");
    let entries = vec![("a/data.pkl".to_owned(), pickle), ("a/data/0".to_owned(), vec![0; 4])];
    let bytes = zip(&entries, CompressionMethod::Stored).expect("an archive");
    let error = refused(Kind::Torch, "expands.pth", bytes, Some(8 << 20));
    assert!(error.contains("does not fit"), "{error}");
}

/// Paths in an archive lead nowhere: nothing is ever unpacked.
#[test]
fn an_archive_whose_names_lead_elsewhere() {
    let _alone = alone();
    let folder = Folder::new();
    for root in ["../../octet-was-here/", "/tmp/octet-was-here/", "C:\\octet-was-here\\"] {
        let entries = unzip(&fixture("zip.pth")).expect("PyTorch's archive");
        let renamed = entries
            .into_iter()
            .map(|(name, content)| (format!("{root}{}", name.split_once('/').map_or("", |(_, rest)| rest)), content));
        let path = folder.path().join("path.pth");
        fs::write(&path, zip(&renamed.collect(), CompressionMethod::Stored).expect("an archive")).expect("a file");
        // Whether it is read or refused does not matter.
        let _ = weights::read_any(&path);
        assert!(!Path::new("/tmp/octet-was-here").exists() && !folder.path().join("../../octet-was-here").exists());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}

/// 300 MB of one value in 300 KB.
#[test]
fn records_that_inflate_beyond_their_header() {
    let _alone = alone();
    let bytes = seeds::gz(&seeds::idx(&[4, 28, 28], vec![0; 300 << 20]));
    let error = refused(Kind::Records, "train-images-idx3-ubyte.gz", bytes, Some(16 << 20));
    assert!(error.contains("too long"), "{error}");
    let bytes = seeds::gz(&seeds::idx(&[400_000, 28, 28], vec![0; 64]));
    let error = refused(Kind::Records, "train-images-idx3-ubyte.gz", bytes, Some(16 << 20));
    assert!(error.contains("expected 1 to"), "{error}");
}

/// A strip of 60,000 x 1 pixels, in 300 bytes: its square would have taken 10 GB.
#[test]
fn a_long_strip_in_a_black_square() {
    let _alone = alone();
    let folder = Folder::new();
    let path = folder.path().join("strip.png");
    image::RgbImage::from_pixel(60_000, 1, image::Rgb([200, 100, 50])).save(&path).expect("a picture");
    for fit in Fit::ALL {
        let broke = watched(Room { bytes: 512 << 20 }, || {
            let image = Image::open(&path).expect("a picture");
            assert_eq!(Preprocess::new(224, fit).apply(&image).len(), 3 * 224 * 224);
        });
        assert_eq!(broke, None, "{fit}");
    }
    // The same as an array of bytes, without an image's own limits.
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    for part in ["train", "t10k"] {
        let strip = seeds::idx(&[1, 1, 100_000], vec![9; 100_000]);
        fs::write(data.join(format!("{part}-images-idx3-ubyte")), strip).expect("a file");
        fs::write(data.join(format!("{part}-labels-idx1-ubyte")), seeds::idx(&[1], [3])).expect("a file");
    }
    let dataset = Dataset::open(&Source::Path(data), 0).expect("an array");
    let broke = watched(Room { bytes: 512 << 20 }, || {
        let image = dataset.train.image(0).expect("an image");
        assert_eq!(Preprocess::new(32, Fit::Pad).apply(&image).len(), 3 * 32 * 32);
    });
    assert_eq!(broke, None);
}

/// Pictures of 2^31 pixels that are a few bytes.
#[test]
fn a_picture_that_claims_more_than_a_camera_takes() {
    let _alone = alone();
    let picture = seeds::of(Kind::Image).iter().find(|s| s.name == "grey.png").expect("a seed").bytes.clone();
    let mut huge = picture;
    huge[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    huge[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let error = refused(Kind::Image, "huge.png", huge, Some(16 << 20));
    assert!(error.contains("60000x60000"), "{error}");
}

/// Two bytes a node in the file, a hundred in memory.
#[test]
fn an_onnx_file_of_empty_nodes() {
    let _alone = alone();
    let nodes = [0x0a, 0].repeat(8 << 20);
    let mut model = vec![0x3a];
    let mut len = nodes.len();
    while len >= 0x80 {
        model.push(len as u8 | 0x80);
        len >>= 7;
    }
    model.push(len as u8);
    model.extend(nodes);
    let broke = watched(Room { bytes: 4 << 20 }, || drop(onnx::decode(&model).expect_err("no model")));
    assert_eq!(broke, None);
}

/// 2 KB of a file that describes an image of 2^28 pixels and layers over it.
#[test]
fn an_int8_file_of_a_network_that_no_machine_holds() {
    let _alone = alone();
    let folder = Folder::new();
    let path = folder.path().join("huge.octet.safetensors");
    let (mut b, mut x) = Builder::new("huge", Shape::new(1, 4096, 4096));
    for i in 0..40 {
        x = b.conv(format!("conv{i}"), x, ConvSpec::new(1, 1));
    }
    let x = b.push("mean", Op::MeanHw, &[x]);
    b.linear("fc", x, 5);
    let float = octet::quant::insert_stubs(&b.finish()).expect("a float graph").0;
    fs::write(&path, seeds::octet(&converted(&filled(&float), &[]))).expect("a file");
    let broke = watched(Room { bytes: 8 << 20 }, || {
        let error = Int8Model::open(&path).expect_err("nobody has the memory").to_string();
        assert!(error.contains("4 GiB"), "{error}");
    });
    assert_eq!(broke, None);
}

/// A graph that is one node too long, whose plan would take the square of that.
#[test]
fn a_network_of_too_many_nodes() {
    let _alone = alone();
    let (mut b, mut x) = Builder::new("long", Shape::new(1, 1, 1));
    for i in 0..octet::graph::MAX_NODES {
        x = b.push(format!("q{i}"), Op::Dropout { p: 0.5 }, &[x]);
    }
    let error = octet::graph::check(&b.finish()).expect_err("too long").to_string();
    assert!(error.contains("4097 nodes"), "{error}");
    // One of as many as there may be is planned in time.
    let (mut b, mut x) = Builder::new("long", Shape::new(1, 2, 2));
    for i in 0..octet::graph::MAX_NODES - 1 {
        x = b.push(format!("a{i}"), Op::Add { relu: true }, &[x, x]);
    }
    let graph = b.finish();
    let broke = watched(Room { bytes: 64 << 20 }, || assert!(graphs::run(&graph)));
    assert_eq!(broke, None);
}

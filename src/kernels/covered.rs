//! No kernel without a case: what the instruction sets export is read from their `mod.rs`, whichever this machine has.

use super::tests::cases;

const SETS: [(&str, &str); 3] = [
    ("avx2", include_str!("avx2/mod.rs")),
    ("avx512", include_str!("avx512/mod.rs")),
    ("neon", include_str!("neon/mod.rs")),
];

/// How the names of the cases begin that run a kernel, and what instruction sets export for it.
const COVERED: [(&str, &[&str]); 11] = [
    ("gemm", &["gemm", "GemmWeights", "Winograd"]),
    ("depthwise", &["depthwise_row", "DepthwiseWeights"]),
    ("table", &["table"]),
    ("table in place", &["table_in_place"]),
    ("add", &["add"]),
    ("mul", &["mul"]),
    ("interleave", &["interleave", "interleave_row", "INTERLEAVED"]),
    ("max pool", &["max", "max_of_two"]),
    ("average pool", &["add_to_sums", "channel_sums"]),
    ("mean", &["add_values_to_sums"]),
    ("quantize", &["quantize", "interleave_planes"]),
];

/// Measured, not compared: it has no result.
const TIMED: &str = "chains";

/// The names of `pub(super) use path::name;` and `pub(super) use path::{name, ..};`.
fn exports(source: &str) -> Vec<&str> {
    let uses = source.split("pub(super) use ").skip(1).map(|rest| rest.split_once(';').expect("it ends").0);
    let names = uses.flat_map(|path| path.rsplit("::").next().expect("a path").trim_matches(['{', '}']).split(','));
    names.map(str::trim).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_kernel_of_every_instruction_set_has_a_case() {
    let covered = |name: &str| name == TIMED || COVERED.iter().any(|(_, names)| names.contains(&name));
    for (set, source) in SETS {
        let names = exports(source);
        assert!(names.contains(&"gemm") && names.contains(&TIMED), "{set} exports {names:?}");
        for name in names {
            assert!(
                covered(name),
                "{set} exports `{name}`, which no case of `tests.rs` runs: add one, and name it here"
            );
        }
    }
    let cases = cases();
    for (case, names) in COVERED {
        assert!(cases.iter().any(|(name, _)| name.starts_with(case)), "no case of `{case}`, which runs {names:?}");
    }
}

//! Runs [`Program`]s on the kernels compiled as plain C++, where a C++ compiler is at hand.

use std::{
    cell::Cell,
    ffi::{CString, c_char, c_int, c_uint, c_void},
    path::Path,
    process::Command,
    sync::OnceLock,
};

use libloading::Library;

use super::{Arg, Buffer, Place, Product, Program, Step};
use crate::kernels::float::matmul_strided;

type Launch = unsafe extern "C" fn(*const c_char, *mut *mut c_void, c_uint, c_uint) -> c_int;

/// The compiled kernels.
pub(crate) struct Shim {
    library: Library,
}

/// Values beside each buffer that no kernel may touch.
const GUARD: usize = 64;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's float operations are to run their programs here.
pub(crate) fn is_on() -> bool {
    ON.get()
}

/// Runs `f` with every float operation of this thread going through its program.
pub(crate) fn simulate<R>(f: impl FnOnce() -> R) -> R {
    ON.set(true);
    let result = f();
    ON.set(false);
    result
}

/// The compiled kernels; `None`, with a message, where there is no C++ compiler.
pub(crate) fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    SHIM.get_or_init(compile).as_ref()
}

fn compile() -> Option<Shim> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if Command::new(&compiler).arg("--version").output().is_err() {
        println!(
            "skipped: there is no C++ compiler `{compiler}` to compile the GPU's kernels with (CXX names another)"
        );
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("kernels.so");
    let runs: String = kernels().iter().map(|k| format!("RUN({k}) ")).collect();
    let output = Command::new(&compiler)
        .args(["-std=c++17", "-O2", "-shared", "-fPIC", "-ffp-contract=fast", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(format!("-DKERNELS={runs}"))
        .arg(source.join("shim.cpp"))
        .output()
        .expect("the compiler runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library is what was compiled above, and has no initializers.
    let library = unsafe { Library::new(&library) }.expect("the library that was just made");
    Some(Shim { library })
}

/// The text of every kernel file.
pub(super) fn sources() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "cu"));
    files.sort();
    files.iter().map(|f| std::fs::read_to_string(f).expect("a kernel file is text")).collect()
}

/// The names of all kernels.
pub(super) fn kernels() -> Vec<String> {
    let text = sources();
    let name = |(at, open): (usize, &str)| {
        let rest = &text[at + open.len()..];
        rest[..rest.find(')').expect("a closing bracket")].to_owned()
    };
    text.match_indices("KERNEL(").map(name).collect()
}

impl Shim {
    /// Runs a program. `output` holds the values to change, of an operation in place; else they are made NaN first, so that
    /// none that is left out goes unseen.
    ///
    /// # Panics
    /// Where a kernel is missing, has other arguments, or wrote outside of its buffers.
    pub fn run(&self, program: &Program, inputs: &[&[f32]], output: &mut [f32], in_place: bool) {
        assert!(program.fits());
        if !in_place {
            output.fill(f32::NAN);
        }
        let mut inputs: Vec<Vec<f32>> = inputs.iter().map(|i| guarded(i)).collect();
        let before: Vec<Vec<u32>> = inputs.iter().map(|i| bits(i)).collect();
        let mut result = guarded(output);
        let mut temporaries: Vec<Vec<f32>> =
            program.temporaries.iter().map(|len| guarded(&vec![f32::NAN; *len])).collect();
        for step in &program.steps {
            let mut pointer = |place: Place| {
                let values = match place.buffer {
                    Buffer::Input(i) => &mut inputs[i],
                    Buffer::Output => &mut result,
                    Buffer::Temporary(i) => &mut temporaries[i],
                };
                values[GUARD + place.offset..].as_mut_ptr()
            };
            match step {
                Step::Launch { kernel, threads, args } => {
                    let mut words: Vec<[u8; 8]> = args
                        .iter()
                        .map(|arg| match arg {
                            Arg::At(place) => (pointer(*place) as usize as u64).to_ne_bytes(),
                            Arg::Int(v) => u64::from(*v).to_ne_bytes(),
                            Arg::Float(v) => u64::from(v.to_bits()).to_ne_bytes(),
                        })
                        .collect();
                    words.push((*threads as u64).to_ne_bytes());
                    self.launch(kernel, &mut words, *threads);
                }
                Step::Product(p) => product(p, &mut pointer),
                Step::Clear(buffer) => {
                    let len = match buffer {
                        Buffer::Input(i) => inputs[*i].len(),
                        Buffer::Output => output.len(),
                        Buffer::Temporary(i) => program.temporaries[*i],
                    };
                    match buffer {
                        Buffer::Input(_) => panic!("an operand is only read"),
                        Buffer::Output => result[GUARD..GUARD + len].fill(0.0),
                        Buffer::Temporary(i) => temporaries[*i][GUARD..GUARD + len].fill(0.0),
                    }
                }
            }
            for values in temporaries.iter().chain([&result]) {
                let (head, tail) = (&values[..GUARD], &values[values.len() - GUARD..]);
                assert!(head.iter().chain(tail).all(|v| v.is_nan()), "{step:?} wrote outside of its buffers");
            }
        }
        assert!(inputs.iter().map(|i| bits(i)).eq(before), "{program:?} wrote to an operand");
        output.copy_from_slice(&result[GUARD..GUARD + output.len()]);
    }

    fn launch(&self, kernel: &str, words: &mut [[u8; 8]], threads: usize) {
        let name = CString::new(kernel).expect("a kernel's name");
        let mut args: Vec<*mut c_void> = words.iter_mut().map(|w| w.as_mut_ptr().cast()).collect();
        // SAFETY: the symbol has this type in shim.cpp; it checks the number of arguments, and little-endian words hold
        // pointers, integers and floats alike in their first bytes. What the kernel does to the buffers is what is tested.
        let code = unsafe {
            let launch = self.library.get::<Launch>(b"octet_launch").expect("shim.cpp has it");
            launch(name.as_ptr(), args.as_mut_ptr(), args.len() as c_uint, threads as c_uint)
        };
        assert_eq!(code, 0, "`{kernel}` with {} arguments: 1 is no such kernel, 2 another number", words.len());
    }
}

fn product(p: &Product, pointer: &mut dyn FnMut(Place) -> *mut f32) {
    let [m, k, n] = p.sizes;
    let (a, b, c) = (pointer(p.a), pointer(p.b), pointer(p.c));
    // SAFETY: a guard follows every buffer, and the buffers of a product are distinct; too long a product would be seen by
    // a changed guard or a NaN in the result, and sizes are those of the tensors.
    let (a, b, c) = unsafe {
        (
            std::slice::from_raw_parts(a, m * k),
            std::slice::from_raw_parts(b, k * n),
            std::slice::from_raw_parts_mut(c, m * n),
        )
    };
    matmul_strided(p.sizes, (a, p.a_transposed), (b, p.b_transposed), c, p.accumulate);
}

fn guarded(values: &[f32]) -> Vec<f32> {
    let guard = [f32::NAN; GUARD];
    [&guard, values, &guard].concat()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

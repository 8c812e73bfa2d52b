use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::{
    cublas::{self, CudaBlas, result::CublasError, sys::cublasOperation_t},
    driver::{
        CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut,
        DriverError, LaunchConfig, PushKernelArg, result,
        sys::{self, CUmemPool_attribute},
    },
    nvrtc::Ptx,
};

use super::{Arg, Buffer, Place, Product, Program, Step};

/// All kernels, compiled by `build.rs`.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
/// Threads in a block.
const BLOCK: u32 = 256;

/// A GPU with the kernels loaded.
#[derive(Debug)]
pub struct Gpu {
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    /// Held while a program is launched: cuBLAS' handle serves one thread at a time.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    blas: CudaBlas,
    functions: HashMap<&'static str, CudaFunction>,
}

/// What can be said of a GPU without using it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// As the driver counts.
    pub number: usize,
    /// `NVIDIA H100 80GB HBM3`
    pub name: String,
    /// In bytes.
    pub memory: usize,
}

/// Why the GPU did not do it.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The driver refused.
    #[error("the CUDA driver says: {0}")]
    Driver(#[from] DriverError),
    /// cuBLAS refused.
    #[error("cuBLAS says: {0:?}")]
    Blas(#[from] CublasError),
    /// A tensor that the kernels cannot count.
    #[error("found a tensor of 2^32 values or more, expected fewer: use a smaller batch")]
    TooLarge,
}

/// Every GPU that the driver finds; none is no error.
///
/// # Errors
/// [`GpuError::Driver`] where the driver does not work.
pub fn devices() -> Result<Vec<GpuInfo>, GpuError> {
    let count = match result::init().and_then(|()| result::device::get_count()) {
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        count => count?,
    };
    (0..count)
        .map(|number| {
            let device = result::device::get(number)?;
            // SAFETY: `device` is what the driver gave for an ordinal below its count.
            let memory = unsafe { result::device::total_mem(device)? };
            Ok(GpuInfo { number: number as usize, name: result::device::get_name(device)?, memory })
        })
        .collect()
}

impl Gpu {
    /// The kernels on a stream's GPU, loaded on the first call for that stream.
    ///
    /// From then on the context keeps no events beside its buffers, and its memory for itself when it is freed: everything
    /// goes through this one stream, in order.
    ///
    /// # Errors
    /// [`GpuError::Driver`] where the GPU cannot run them.
    pub fn of(stream: &Arc<CudaStream>) -> Result<Arc<Self>, GpuError> {
        type Opened = Mutex<Vec<((usize, usize), Arc<Gpu>)>>;
        static OPENED: Opened = Mutex::new(Vec::new());
        let key = (stream.context().ordinal(), stream.cu_stream() as usize);
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, gpu)) = opened.iter().find(|(k, _)| *k == key) {
            return Ok(Arc::clone(gpu));
        }
        let context = stream.context();
        // SAFETY: all work on this context's buffers is put on one stream, which runs it in order.
        unsafe { context.disable_event_tracking() };
        let gpu = Arc::new(Self {
            stream: Arc::clone(stream),
            module: context.load_module(Ptx::from_src(PTX))?,
            state: Mutex::new(State { blas: CudaBlas::new(Arc::clone(stream))?, functions: HashMap::new() }),
        });
        gpu.keep_memory()?;
        opened.push((key, Arc::clone(&gpu)));
        Ok(gpu)
    }

    /// Uninitialised values.
    fn alloc(&self, len: usize) -> Result<CudaSlice<f32>, GpuError> {
        // SAFETY: any bits are a float; programs write before they read, which the tests hold by filling with NaN.
        Ok(unsafe { self.stream.alloc::<f32>(len.max(1))? })
    }

    /// Runs a program into a new buffer of `len` values.
    ///
    /// # Errors
    /// [`GpuError`] where the GPU, or the size of a tensor, does not allow it.
    pub fn run(&self, program: &Program, inputs: &[CudaView<'_, f32>], len: usize) -> Result<CudaSlice<f32>, GpuError> {
        let mut output = self.alloc(len)?;
        self.run_in_place(program, inputs, &mut output.as_view_mut())?;
        Ok(output)
    }

    /// Runs a program on `output`. It has been put on the stream when this returns, and may not have run yet.
    ///
    /// # Errors
    /// As [`Gpu::run`].
    pub fn run_in_place(
        &self,
        program: &Program,
        inputs: &[CudaView<'_, f32>],
        output: &mut CudaViewMut<'_, f32>,
    ) -> Result<(), GpuError> {
        if !program.fits() {
            return Err(GpuError::TooLarge);
        }
        self.stream.context().bind_to_thread()?;
        let mut temporaries =
            program.temporaries.iter().map(|len| self.alloc(*len)).collect::<Result<Vec<_>, GpuError>>()?;
        let lens: (Vec<usize>, usize) = (inputs.iter().map(CudaView::len).collect(), output.len());
        let (inputs, _reading): (Vec<_>, Vec<_>) = inputs.iter().map(|i| i.device_ptr(&self.stream)).unzip();
        let (output, _writing) = output.device_ptr_mut(&self.stream);
        let (owned, _own): (Vec<_>, Vec<_>) = temporaries.iter_mut().map(|t| t.device_ptr_mut(&self.stream)).unzip();
        let pointer = |place: Place| {
            let first = match place.buffer {
                Buffer::Input(i) => inputs[i],
                Buffer::Output => output,
                Buffer::Temporary(i) => owned[i],
            };
            first + (place.offset * size_of::<f32>()) as u64
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for step in &program.steps {
            match step {
                Step::Launch { kernel, threads, args } => {
                    let function = self.function(&mut state, kernel)?;
                    self.launch(&function, *threads, args, &pointer)?;
                }
                Step::Product(p) => product(&state.blas, p, &pointer)?,
                Step::Clear(buffer) => {
                    let len = match buffer {
                        Buffer::Input(i) => lens.0[*i],
                        Buffer::Output => lens.1,
                        Buffer::Temporary(i) => program.temporaries[*i],
                    };
                    // SAFETY: the buffer has that many values.
                    unsafe {
                        let bytes = len * size_of::<f32>();
                        result::memset_d8_async(pointer(buffer.at(0)), 0, bytes, self.stream.cu_stream())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn function(&self, state: &mut State, kernel: &'static str) -> Result<CudaFunction, GpuError> {
        if let Some(function) = state.functions.get(kernel) {
            return Ok(function.clone());
        }
        let function = self.module.load_function(kernel)?;
        state.functions.insert(kernel, function.clone());
        Ok(function)
    }

    fn launch(
        &self,
        function: &CudaFunction,
        threads: usize,
        args: &[Arg],
        pointer: &dyn Fn(Place) -> u64,
    ) -> Result<(), GpuError> {
        /// What the driver copies an argument from.
        enum Word {
            Pointer(u64),
            Int(u32),
            Float(f32),
        }
        if threads == 0 {
            return Ok(());
        }
        let count = threads as u32; // Program::fits
        let words: Vec<Word> = args
            .iter()
            .map(|arg| match arg {
                Arg::At(place) => Word::Pointer(pointer(*place)),
                Arg::Int(v) => Word::Int(*v),
                Arg::Float(v) => Word::Float(*v),
            })
            .collect();
        let mut builder = self.stream.launch_builder(function);
        for word in &words {
            match word {
                Word::Pointer(v) => builder.arg(v),
                Word::Int(v) => builder.arg(v),
                Word::Float(v) => builder.arg(v),
            };
        }
        builder.arg(&count);
        let config =
            LaunchConfig { grid_dim: (count.div_ceil(BLOCK), 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: this folder's tests hold every program to its kernels' parameters and to its buffers' lengths.
        unsafe { builder.launch(config)? };
        Ok(())
    }

    /// The most memory that tensors have taken at one time since the last [`Gpu::forget_peak`], in bytes; `None` on a GPU
    /// that does not count.
    pub fn peak_memory(&self) -> Option<u64> {
        let mut bytes = 0u64;
        let pool = self.pool().ok()??;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: the attribute is 64 bits wide.
        let got = unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()) };
        got.result().ok().map(|()| bytes)
    }

    /// Counts the peak from here.
    pub fn forget_peak(&self) {
        let mut zero = 0u64;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        if let Ok(Some(pool)) = self.pool() {
            // SAFETY: the attribute is 64 bits wide, and zero is the value that it may be set to.
            let _ = unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut zero).cast()) };
        }
    }

    /// Has freed memory stay with this process: a step would else get it from the system anew.
    fn keep_memory(&self) -> Result<(), GpuError> {
        let mut all = u64::MAX;
        if let Some(pool) = self.pool()? {
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            // SAFETY: the attribute is 64 bits wide.
            unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast()) }.result()?;
        }
        Ok(())
    }

    /// Where the stream allocates from, if from a pool.
    fn pool(&self) -> Result<Option<sys::CUmemoryPool>, GpuError> {
        let context: &CudaContext = self.stream.context();
        if !context.has_async_alloc() {
            return Ok(None);
        }
        context.bind_to_thread()?;
        // SAFETY: the context's own device.
        Ok(Some(unsafe { result::device::get_mem_pool(context.cu_device())? }))
    }

    /// Waits until everything that was put on the stream has run.
    ///
    /// # Errors
    /// [`GpuError::Driver`] where something of it failed.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        Ok(self.stream.synchronize()?)
    }
}

fn product(blas: &CudaBlas, p: &Product, pointer: &dyn Fn(Place) -> u64) -> Result<(), GpuError> {
    let [m, k, n] = p.sizes.map(|s| s as i32); // Program::fits
    if m == 0 || n == 0 {
        return Ok(());
    }
    let operation =
        |transposed| if transposed { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N };
    let (one, beta) = (1.0f32, if p.accumulate { 1.0f32 } else { 0.0 });
    // cuBLAS counts by columns: it sees each matrix as its transpose, and c' = b' * a'.
    let (row_a, row_b) = (if p.a_transposed { m } else { k }, if p.b_transposed { k } else { n });
    // SAFETY: the operands are as long as their sizes say, which this folder's tests hold.
    unsafe {
        cublas::result::sgemm(
            *blas.handle(),
            operation(p.b_transposed),
            operation(p.a_transposed),
            n,
            m,
            k,
            &raw const one,
            pointer(p.b) as *const f32,
            row_b,
            pointer(p.a) as *const f32,
            row_a,
            &raw const beta,
            pointer(p.c) as *mut f32,
            n,
        )?;
    }
    Ok(())
}

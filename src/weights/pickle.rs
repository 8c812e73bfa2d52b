//! A pickle interpreter that builds plain data and calls nothing.
//!
//! Objects live in an arena and refer to each other by position, so sharing costs nothing and nothing recurses. Every
//! instruction makes at most one object and every length is checked against what is left of the input: memory stays
//! proportional to the file.

use std::collections::HashMap;

/// Dimensions a tensor may have.
const MAX_RANK: usize = 8;

/// Position of an object in [`Pickle::objects`].
pub(super) type Id = usize;

/// What a pickle of PyTorch's can hold.
#[derive(Clone, Debug)]
pub(super) enum Object {
    None,
    Bool,
    /// 128 bits hold the magic number of PyTorch's old format.
    Int(i128),
    Float,
    Str(String),
    Bytes,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef),
    Tensor(TensorRef),
}

/// The only names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    Storage(ElementType),
}

/// Element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ElementType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// A flat array, kept outside the pickle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StorageRef {
    pub key: String,
    pub element: ElementType,
    /// In elements.
    pub len: usize,
}

/// A strided view of a storage; all numbers count elements.
#[derive(Clone, Debug)]
pub(super) struct TensorRef {
    pub storage: Id,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

/// What came out of one pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub objects: Vec<Object>,
    pub root: Id,
    /// Bytes read, up to and including the stop instruction.
    pub consumed: usize,
}

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PickleError {
    #[error("its pickle ends early: the file is truncated")]
    Truncated,
    #[error("its pickle has the instruction {opcode:#04x} at byte {at}, which no state dict needs")]
    Opcode { opcode: u8, at: usize },
    #[error("its pickle names `{0}`")]
    Global(String),
    #[error("its pickle is damaged at byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
}

/// Reads one pickle from the start of `input`.
pub(super) fn parse(input: &[u8]) -> Result<Pickle, PickleError> {
    let mut machine =
        Machine { input, at: 0, objects: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok(Pickle { objects: machine.objects, root, consumed: machine.at })
}

impl Pickle {
    pub fn str(&self, id: Id) -> Option<&str> {
        if let Object::Str(text) = &self.objects[id] { Some(text) } else { None }
    }

    pub fn list(&self, id: Id) -> Option<&[Id]> {
        if let Object::List(items) = &self.objects[id] { Some(items) } else { None }
    }

    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Object::Dict(entries) = &self.objects[id] { Some(entries) } else { None }
    }

    pub fn tensor(&self, id: Id) -> Option<&TensorRef> {
        if let Object::Tensor(tensor) = &self.objects[id] { Some(tensor) } else { None }
    }

    pub fn storage(&self, tensor: &TensorRef) -> Option<&StorageRef> {
        if let Object::Storage(storage) = &self.objects[tensor.storage] { Some(storage) } else { None }
    }

    pub fn is_int(&self, id: Id, value: i128) -> bool {
        matches!(&self.objects[id], Object::Int(n) if *n == value)
    }

    pub fn is_none(&self, id: Id) -> bool {
        matches!(&self.objects[id], Object::None)
    }
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", storage) => Self::Storage(match storage {
                "DoubleStorage" => ElementType::F64,
                "FloatStorage" => ElementType::F32,
                "HalfStorage" => ElementType::F16,
                "BFloat16Storage" => ElementType::BF16,
                "LongStorage" => ElementType::I64,
                "IntStorage" => ElementType::I32,
                "ShortStorage" => ElementType::I16,
                "CharStorage" => ElementType::I8,
                "ByteStorage" => ElementType::U8,
                "BoolStorage" => ElementType::Bool,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Done = Result<(), PickleError>;

impl Machine<'_> {
    /// Runs one instruction; false after the last.
    fn step(&mut self) -> Result<bool, PickleError> {
        let at = self.at;
        match self.byte()? {
            b'.' => return Ok(false),
            // Protocol and frame headers say nothing we need.
            0x80 => self.skip(1)?,
            0x95 => self.skip(8)?,
            b'N' => self.push(Object::None),
            0x88 | 0x89 => self.push(Object::Bool),
            b'K' => self.int(1, false)?,
            b'M' => self.int(2, false)?,
            b'J' => self.int(4, true)?,
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                self.skip(8)?;
                self.push(Object::Float);
            }
            b'X' | b'T' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'B' => self.bytes(4)?,
            b'C' => self.bytes(1)?,
            0x8e => self.bytes(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b']' => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            b'q' => {
                let slot = self.number(1)?;
                self.memoize(slot as u32)?;
            }
            b'r' => {
                let slot = self.number(4)?;
                self.memoize(slot as u32)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Object::Str(module), Object::Str(name)) = (&self.objects[module], &self.objects[name]) else {
                    return Err(self.malformed("a global's name is no text"));
                };
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)?;
            }
            b'Q' => self.persistent()?,
            b'R' => self.call()?,
            b'b' => self.build()?,
            opcode => return Err(PickleError::Opcode { opcode, at }),
        }
        Ok(true)
    }

    fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { at: self.at, what }
    }

    fn take(&mut self, len: usize) -> Result<&[u8], PickleError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.input.len()).ok_or(PickleError::Truncated)?;
        let taken = &self.input[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    fn skip(&mut self, len: usize) -> Done {
        self.take(len).map(drop)
    }

    /// Little-endian, `width` bytes.
    fn number(&mut self, width: usize) -> Result<u64, PickleError> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn length(&mut self, width: usize) -> Result<usize, PickleError> {
        usize::try_from(self.number(width)?).map_err(|_| PickleError::Truncated)
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.input[self.at..];
        let len = rest.iter().position(|b| *b == b'\n').ok_or(PickleError::Truncated)?;
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.skip(1)?;
        Ok(text)
    }

    fn push(&mut self, object: Object) {
        self.objects.push(object);
        self.stack.push(self.objects.len() - 1);
    }

    fn top(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.malformed("its stack is empty"));
        }
        Ok(self.stack[self.stack.len() - 1])
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn int(&mut self, width: usize, signed: bool) -> Done {
        let value = self.number(width)?;
        let value = if signed { i128::from(value as u32 as i32) } else { i128::from(value) };
        self.push(Object::Int(value));
        Ok(())
    }

    /// Two's complement of a length that comes first.
    fn long(&mut self, width: usize) -> Done {
        let len = self.length(width)?;
        let digits = self.take(len)?;
        let negative = digits.last().is_some_and(|b| b & 0x80 != 0);
        let mut bytes = [if negative { 0xff } else { 0 }; 16];
        let Some(low) = bytes.get_mut(..len) else { return Err(self.malformed("an integer of over 128 bits")) };
        low.copy_from_slice(digits);
        self.push(Object::Int(i128::from_le_bytes(bytes)));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Done {
        let len = self.length(width)?;
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.push(Object::Str(text));
        Ok(())
    }

    fn bytes(&mut self, width: usize) -> Done {
        let len = self.length(width)?;
        self.skip(len)?;
        self.push(Object::Bytes);
        Ok(())
    }

    fn tuple(&mut self, len: usize) -> Done {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Object::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Done {
        let list = self.top()?;
        let Object::List(list) = &mut self.objects[list] else {
            return Err(self.malformed("an item is appended to what is no list"));
        };
        list.extend(items);
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Done {
        let dict = self.top()?;
        let pairs = items.chunks_exact(2);
        let (Object::Dict(entries), []) = (&mut self.objects[dict], pairs.remainder()) else {
            return Err(self.malformed("a key is set in what is no dictionary"));
        };
        entries.extend(pairs.map(|p| (p[0], p[1])));
        Ok(())
    }

    fn memoize(&mut self, slot: u32) -> Done {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Done {
        let slot = self.number(width)? as u32;
        let id = *self.memo.get(&slot).ok_or_else(|| self.malformed("it recalls what it did not store"))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Done {
        let global = Global::find(module, name).ok_or_else(|| PickleError::Global(format!("{module}.{name}")))?;
        self.push(Object::Global(global));
        Ok(())
    }

    /// `("storage", type, key, location, elements)`; the old format adds a sixth, `None` unless it is a view.
    fn persistent(&mut self) -> Done {
        let id = self.pop()?;
        let storage = self.parts(id).and_then(|parts| self.storage(parts));
        let storage = storage.ok_or_else(|| self.malformed("a reference that is no storage"))?;
        self.push(Object::Storage(storage));
        Ok(())
    }

    fn storage(&self, parts: &[Id]) -> Option<StorageRef> {
        let object = |i: usize| parts.get(i).map(|id| &self.objects[*id]);
        let (Object::Str(kind), Object::Global(Global::Storage(element)), Object::Str(key), None | Some(Object::None)) =
            (object(0)?, object(1)?, object(2)?, object(5))
        else {
            return None;
        };
        let len = self.count(*parts.get(4)?)?;
        (kind == "storage").then(|| StorageRef { key: key.clone(), element: *element, len })
    }

    /// The one place where Python would run code: three known constructors, told apart by name.
    fn call(&mut self) -> Done {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let made = self.parts(arguments).and_then(|parts| self.construct(function, parts));
        let made = made.ok_or_else(|| self.malformed("a call with arguments that it does not take"))?;
        self.push(made);
        Ok(())
    }

    fn construct(&self, function: Id, parts: &[Id]) -> Option<Object> {
        let Object::Global(global) = &self.objects[function] else { return None };
        match global {
            Global::OrderedDict => parts.is_empty().then(|| Object::Dict(Vec::new())),
            Global::RebuildTensor => self.tensor(parts).map(Object::Tensor),
            Global::RebuildParameter => {
                let Object::Tensor(data) = &self.objects[*parts.first()?] else { return None };
                Some(Object::Tensor(data.clone()))
            }
            Global::Storage(_) => None,
        }
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    fn tensor(&self, parts: &[Id]) -> Option<TensorRef> {
        let storage = *parts.first()?;
        let Object::Storage(_) = &self.objects[storage] else { return None };
        let offset = self.count(*parts.get(1)?)?;
        let (shape, stride) = (self.counts(*parts.get(2)?)?, self.counts(*parts.get(3)?)?);
        (shape.len() == stride.len()).then_some(TensorRef { storage, offset, shape, stride })
    }

    fn parts(&self, id: Id) -> Option<&[Id]> {
        if let Object::Tuple(parts) = &self.objects[id] { Some(parts) } else { None }
    }

    fn count(&self, id: Id) -> Option<usize> {
        if let Object::Int(n) = &self.objects[id] { usize::try_from(*n).ok() } else { None }
    }

    /// Dimensions or strides.
    fn counts(&self, id: Id) -> Option<Vec<usize>> {
        let parts = self.parts(id).filter(|parts| parts.len() <= MAX_RANK)?;
        parts.iter().map(|p| self.count(*p)).collect()
    }

    /// Sets an object's attributes. A state dict's `_metadata` comes this way; nothing of it is needed.
    fn build(&mut self) -> Done {
        let _attributes = self.pop()?;
        let object = self.top()?;
        let Object::Dict(_) = &self.objects[object] else {
            return Err(self.malformed("attributes are set on what is no dictionary"));
        };
        Ok(())
    }
}

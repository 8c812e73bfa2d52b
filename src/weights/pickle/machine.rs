use std::collections::HashMap;

use super::{Global, Id, MAX_INSTRUCTIONS, Object, Pickle, PickleError};

/// Reads one pickle from the start of `input`.
pub(super) fn run(input: &[u8]) -> Result<Pickle, PickleError> {
    let mut machine =
        Machine { input, at: 0, objects: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let mut instructions = 0;
    while machine.step()? {
        instructions += 1;
        if instructions == MAX_INSTRUCTIONS {
            return Err(PickleError::Endless);
        }
    }
    let root = machine.pop()?;
    Ok(Pickle { objects: machine.objects, root, consumed: machine.at })
}

pub(super) struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    pub(super) objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

pub(super) type Done = Result<(), PickleError>;

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
                // The one number that pickles write with its first byte first.
                let bits = self.number(8)?.swap_bytes();
                self.push(Object::Float(f64::from_bits(bits)));
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

    pub(super) fn malformed(&self, what: &'static str) -> PickleError {
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

    pub(super) fn push(&mut self, object: Object) {
        self.objects.push(object);
        self.stack.push(self.objects.len() - 1);
    }

    pub(super) fn top(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.malformed("its stack is empty"));
        }
        Ok(self.stack[self.stack.len() - 1])
    }

    pub(super) fn pop(&mut self) -> Result<Id, PickleError> {
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
}

//! The one place where Python would run code: known constructors, told apart by name, and the references to storages.

use super::{
    Global, Grid, Id, Object, QuantizedRef, StorageRef, TensorRef,
    machine::{Done, Machine},
};

/// Dimensions a tensor may have.
const MAX_RANK: usize = 8;

/// A storage's name is a number. A long one that every tensor repeats would multiply the file.
const MAX_KEY: usize = 64;

impl Machine<'_> {
    /// `("storage", type, key, location, elements)`; the old format adds a sixth, `None` unless it is a view.
    pub(super) fn persistent(&mut self) -> Done {
        let id = self.pop()?;
        let storage = self.parts(id).and_then(|parts| self.storage(parts));
        let storage = storage.ok_or_else(|| self.malformed("a reference that is no storage"))?;
        self.push(Object::Storage(Box::new(storage)));
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
        (kind == "storage" && key.len() <= MAX_KEY).then(|| StorageRef { key: key.clone(), element: *element, len })
    }

    /// Calls a constructor.
    pub(super) fn call(&mut self) -> Done {
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
            Global::RebuildTensor => self.tensor(parts).map(|t| Object::Tensor(Box::new(t))),
            Global::RebuildQuantized => self.quantized(parts).map(|t| Object::Quantized(Box::new(t))),
            Global::RebuildParameter => {
                let Object::Tensor(data) = &self.objects[*parts.first()?] else { return None };
                Some(Object::Tensor(data.clone()))
            }
            Global::Storage(_) | Global::Dtype | Global::PerTensor | Global::PerChannel => None,
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

    /// `_rebuild_qtensor(storage, offset, size, stride, grid, requires_grad, hooks)`.
    fn quantized(&self, parts: &[Id]) -> Option<QuantizedRef> {
        let view = self.tensor(parts)?;
        let grid = self.parts(*parts.get(4)?)?;
        let object = |i: usize| grid.get(i).map(|id| &self.objects[*id]);
        let grid = match (object(0)?, object(1)?, object(2)?) {
            (Object::Global(Global::PerTensor), Object::Float(scale), Object::Int(zero_point)) => {
                Grid::PerTensor { scale: *scale, zero_point: *zero_point }
            }
            (Object::Global(Global::PerChannel), Object::Tensor(_), Object::Tensor(_)) => {
                Grid::PerChannel { scales: grid[1], zero_points: grid[2], axis: self.count(*grid.get(3)?)? }
            }
            _ => return None,
        };
        Some(QuantizedRef { view, grid })
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
    pub(super) fn build(&mut self) -> Done {
        let _attributes = self.pop()?;
        let object = self.top()?;
        let Object::Dict(_) = &self.objects[object] else {
            return Err(self.malformed("attributes are set on what is no dictionary"));
        };
        Ok(())
    }
}

//! Attributes of a node by their names; what is missing or of another type is told with the name.

use super::{proto, read::MAX_EXTENT};

fn find<'n>(node: &'n proto::Node, name: &str) -> Result<&'n proto::Attribute, String> {
    let found = node.attribute.iter().find(|a| a.name.as_deref() == Some(name));
    found.ok_or_else(|| format!("lacks its attribute `{name}`"))
}

pub(super) fn integer(node: &proto::Node, name: &str) -> Result<i64, String> {
    find(node, name)?.i.ok_or_else(|| format!("its attribute `{name}` is no integer"))
}

pub(super) fn float(node: &proto::Node, name: &str) -> Result<f32, String> {
    find(node, name)?.f.ok_or_else(|| format!("its attribute `{name}` is no number"))
}

pub(super) fn integers<'n>(node: &'n proto::Node, name: &str) -> Result<&'n [i64], String> {
    Ok(&find(node, name)?.ints)
}

/// `count` equal numbers.
pub(super) fn square(node: &proto::Node, name: &str, count: usize) -> Result<usize, String> {
    let values = integers(node, name)?;
    let first = values.first().and_then(|v| usize::try_from(*v).ok()).filter(|v| *v <= MAX_EXTENT);
    match first {
        Some(first) if values.len() == count && values.iter().all(|v| *v == values[0]) => Ok(first),
        Some(_) | None => Err(format!("its `{name}` is {values:?}, expected {count} equal numbers")),
    }
}

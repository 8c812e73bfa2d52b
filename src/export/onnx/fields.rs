//! How many fields a model has, before it is decoded: an empty node has two bytes in the file and a hundred in memory.

use prost::encoding::{WireType, decode_key, decode_varint};

/// Fields of a model, four times as many as the largest of the zoo has.
const MAX_FIELDS: usize = 1 << 18;

/// Which fields are messages, by the numbers on the way to them (`proto`).
fn is_message(path: &[u32]) -> bool {
    matches!(
        path,
        [7 | 8 | 14]
            | [7, 1 | 5 | 11 | 12]
            | [7, 1, 5]
            | [7, 11 | 12, 2]
            | [7, 11 | 12, 2, 1]
            | [7, 11 | 12, 2, 1, 2]
            | [7, 11 | 12, 2, 1, 2, 1]
    )
}

/// Which fields are numbers that may stand in one field: the integers of an attribute, dimensions.
fn is_packed(path: &[u32]) -> bool {
    matches!(path, [7, 1, 5, 8] | [7, 5, 1])
}

/// That there are not more than any model of ours has.
///
/// # Errors
/// What was found.
pub(super) fn require_few(model: &[u8]) -> Result<(), String> {
    let mut left = MAX_FIELDS;
    match count(model, &mut Vec::new(), &mut left) {
        Some(()) => Ok(()),
        None if left == 0 => Err(format!("more than {MAX_FIELDS} fields, which no model of ours has")),
        None => Err("a field ends behind the file".to_owned()),
    }
}

/// Takes every field of a message from `left`; nothing where that does not suffice, or the message is damaged.
fn count(mut message: &[u8], path: &mut Vec<u32>, left: &mut usize) -> Option<()> {
    while !message.is_empty() {
        take(left, 1)?;
        let (field, kind) = decode_key(&mut message).ok()?;
        let len = match kind {
            WireType::Varint => {
                decode_varint(&mut message).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut message).ok()?).ok()?,
            // Of an older form that nothing here is written in.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (inside, rest) = message.split_at_checked(len)?;
        message = rest;
        path.push(field);
        if is_packed(path) {
            take(left, inside.len())?;
        } else if is_message(path) && kind == WireType::LengthDelimited {
            count(inside, path, left)?;
        }
        path.pop();
    }
    Some(())
}

fn take(left: &mut usize, fields: usize) -> Option<()> {
    *left = left.saturating_sub(fields);
    (*left > 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_empty_nodes_is_refused_before_it_is_decoded() {
        let nodes = [0x0a, 0].repeat(MAX_FIELDS);
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(nodes.len() as u64, &mut model);
        model.extend(nodes);
        assert!(require_few(&model).is_err_and(|e| e.contains("more than")));
        let short = [0x3a, 4, 0x0a, 0, 0x0a, 0];
        require_few(&short).expect("two nodes");
        require_few(&short[..5]).expect_err("cut");
    }
}

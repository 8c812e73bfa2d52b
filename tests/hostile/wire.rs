//! Mutations of an ONNX file: its messages taken apart, changed, and put together with right lengths.

use crate::mutate::{EXTREMES, FLOATS, NUMBERS, Random};

/// A field: its number and what it holds.
pub type Fields = Vec<(u64, Field)>;

#[derive(Clone)]
pub enum Field {
    Number(u64),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    Message(Fields),
    Four([u8; 4]),
}

/// Which fields are messages, by the numbers on the way to them (`onnx.proto`).
fn is_message(path: &[u64]) -> bool {
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

pub fn mutated(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut fields = parse(bytes, &mut Vec::new())?;
    for _ in 0..=random.below(2) {
        change(&mut fields, random);
    }
    let mut next = Vec::new();
    write(&fields, &mut next);
    Some(next)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The fields of a message; `path` leads to it.
pub fn parse(mut bytes: &[u8], path: &mut Vec<u64>) -> Option<Fields> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => {
                let (now, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Field::Eight(*now)
            }
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                let (now, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                path.push(number);
                let inside = if is_message(path) { parse(now, path) } else { None };
                path.pop();
                inside.map_or_else(|| Field::Bytes(now.to_vec()), Field::Message)
            }
            5 => {
                let (now, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Field::Four(*now)
            }
            _ => return None,
        };
        fields.push((number, field));
    }
    Some(fields)
}

fn put(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

pub fn write(fields: &Fields, to: &mut Vec<u8>) {
    for (number, field) in fields {
        let mut key = |wire: u64| put(number << 3 | wire, to);
        match field {
            Field::Number(value) => {
                key(0);
                put(*value, to);
            }
            Field::Eight(bytes) => {
                key(1);
                to.extend(bytes);
            }
            Field::Bytes(bytes) => {
                key(2);
                put(bytes.len() as u64, to);
                to.extend(bytes);
            }
            Field::Message(inside) => {
                key(2);
                let mut bytes = Vec::new();
                write(inside, &mut bytes);
                put(bytes.len() as u64, to);
                to.extend(bytes);
            }
            Field::Four(bytes) => {
                key(5);
                to.extend(bytes);
            }
        }
    }
}

fn change(fields: &mut Fields, random: &mut Random) {
    if fields.is_empty() {
        return;
    }
    let (at, other) = (random.below(fields.len()), random.below(fields.len()));
    match random.below(12) {
        0 => drop(fields.remove(at)),
        1 => fields.insert(other, fields[at].clone()),
        2 => fields.swap(at, other),
        _ => match &mut fields[at].1 {
            Field::Message(inside) => change(inside, random),
            Field::Number(value) => *value = *random.pick(&EXTREMES),
            Field::Eight(bytes) => *bytes = random.pick(&EXTREMES).to_le_bytes(),
            Field::Four(bytes) => *bytes = random.pick(&FLOATS).to_le_bytes(),
            Field::Bytes(bytes) => bytes_of(bytes, random),
        },
    }
}

/// Names, operators, tensors' values.
fn bytes_of(bytes: &mut Vec<u8>, random: &mut Random) {
    let operators =
        ["Conv", "Relu", "Add", "Mul", "Concat", "Reshape", "Clip", "Sigmoid", "Gemm", "MaxPool", "Identity"];
    match random.below(6) {
        0 => *bytes = random.pick(&operators).as_bytes().to_vec(),
        1 => *bytes = random.pick(&NUMBERS).as_bytes().to_vec(),
        2 => bytes.truncate(bytes.len() / 2),
        3 => bytes.extend([0; 4]),
        4 if bytes.len() >= 4 => {
            let at = random.below(bytes.len() / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&random.pick(&FLOATS).to_le_bytes());
        }
        _ => {
            if let Some(byte) = bytes.first_mut() {
                *byte ^= 1;
            }
        }
    }
}

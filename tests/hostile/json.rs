//! Mutations of JSON: on its own, and in the header of a safetensors file.

use serde_json::{Map, Value, json};

use crate::mutate::{FLOATS, NUMBERS, Random};

/// Of a file that is JSON.
pub fn whole(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    change(&mut value, random);
    let mut text = value.to_string();
    if random.one_in(8) {
        text = double_key(&text, random);
    }
    Some(text.into_bytes())
}

/// Of the header of a safetensors file; its length is set right, so that what is behind it is read.
pub fn in_header(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let len = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    let (header, data) = (bytes.get(8..8usize.checked_add(len)?)?, &bytes[8 + len..]);
    if random.one_in(6) && data.len() >= 4 {
        return Some(in_data(bytes, 8 + len, random));
    }
    let mut value: Value = serde_json::from_slice(header).ok()?;
    let mut data = data.to_vec();
    match random.below(8) {
        0 => shape(&mut value, random)?,
        1 => offsets(&mut value, random)?,
        2 => dtype(&mut value, random)?,
        3 => rename(&mut value, random)?,
        4 => {
            // As long as its shape says, whatever that is.
            shape(&mut value, random)?;
            fit(&mut value, &mut data);
        }
        _ => document(&mut value, random)?,
    }
    let mut text = value.to_string();
    match random.below(24) {
        0 => text = double_key(&text, random),
        1 => text = deep(&text, random),
        _ => {}
    }
    let mut next = (text.len() as u64).to_le_bytes().to_vec();
    next.extend(text.into_bytes());
    next.extend(data);
    Some(next)
}

/// A float32 of the data.
fn in_data(bytes: &[u8], start: usize, random: &mut Random) -> Vec<u8> {
    let mut next = bytes.to_vec();
    let at = start + random.below((bytes.len() - start) / 4) * 4;
    next[at..at + 4].copy_from_slice(&random.pick(&FLOATS).to_le_bytes());
    next
}

fn tensors(header: &Value) -> Vec<String> {
    let keys = header.as_object().into_iter().flat_map(Map::keys);
    keys.filter(|k| *k != "__metadata__").cloned().collect()
}

fn shape(header: &mut Value, random: &mut Random) -> Option<()> {
    let keys = tensors(header);
    let key = keys.get(random.below(keys.len().max(1)))?;
    let shape = header.get_mut(key)?.get_mut("shape")?.as_array_mut()?;
    let extent = || -> [Value; 9] {
        [json!(0), json!(1), json!(2), json!(3), json!(8), json!(1 << 20), json!(u32::MAX), json!(u64::MAX), json!(-1)]
    };
    match random.below(4) {
        0 => shape.push(random.pick(&extent()).clone()),
        1 => drop(shape.pop()),
        2 if shape.len() > 1 => shape.reverse(),
        _ => {
            let at = random.below(shape.len().max(1));
            *shape.get_mut(at)? = random.pick(&extent()).clone();
        }
    }
    Some(())
}

fn offsets(header: &mut Value, random: &mut Random) -> Option<()> {
    let keys = tensors(header);
    let (key, other) = (random.pick(&keys).clone(), random.pick(&keys).clone());
    let theirs = header.get(&other)?.get("data_offsets")?.clone();
    let ours = header.get_mut(&key)?.get_mut("data_offsets")?;
    *ours = match random.below(4) {
        0 => theirs,
        1 => json!([ours[1], ours[0]]),
        2 => json!([ours[0], u64::MAX]),
        _ => json!([ours[0].as_u64()?.wrapping_add(random.below(9) as u64).wrapping_sub(4), ours[1]]),
    };
    Some(())
}

fn dtype(header: &mut Value, random: &mut Random) -> Option<()> {
    let keys = tensors(header);
    let key = random.pick(&keys);
    let kinds = ["F32", "I8", "U8", "F16", "BF16", "F64", "I64", "BOOL", "F4", "F8_E4M3", "X"];
    *header.get_mut(key)?.get_mut("dtype")? = json!(random.pick(&kinds));
    Some(())
}

fn rename(header: &mut Value, random: &mut Random) -> Option<()> {
    let keys = tensors(header);
    let tensor = header.as_object_mut()?.remove(random.pick(&keys))?;
    let name = match random.below(4) {
        0 => String::new(),
        1 => "x".repeat(10_000),
        2 => "../../\u{0}\n\u{202e}".to_owned(),
        _ => random.pick(&keys).clone(),
    };
    header.as_object_mut()?.insert(name, tensor);
    Some(())
}

/// Lays the tensors one behind the other, each as long as its shape says, where that is not absurd.
fn fit(header: &mut Value, data: &mut Vec<u8>) {
    let mut at = 0_u64;
    for key in tensors(header) {
        let Some(tensor) = header.get_mut(&key) else { continue };
        let width = match tensor["dtype"].as_str() {
            Some("F32") => 4,
            Some("I64" | "F64") => 8,
            Some("F16" | "BF16") => 2,
            _ => 1,
        };
        let extents = tensor["shape"].as_array().into_iter().flatten();
        let bytes = extents.map(|e| e.as_u64().unwrap_or(1)).fold(width, u64::saturating_mul).min(1 << 21);
        tensor["data_offsets"] = json!([at, at + bytes]);
        at += bytes;
    }
    data.resize(at.min(1 << 22) as usize, 3);
}

/// The JSON within the metadata: the graph of an int8 file, the state of a training.
fn document(header: &mut Value, random: &mut Random) -> Option<()> {
    let metadata = header.get_mut("__metadata__")?.as_object_mut()?;
    let key = metadata.keys().nth(random.below(metadata.len().max(1)))?.clone();
    let text = metadata.get(&key)?.as_str()?;
    let next = match (serde_json::from_str::<Value>(text), random.below(24)) {
        (_, 0) => double_key(text, random),
        (_, 1) => deep(text, random),
        (Ok(mut inside), _) => {
            for _ in 0..=random.below(3) {
                match inside.get_mut("nodes").and_then(Value::as_array_mut) {
                    Some(nodes) if !random.one_in(4) => node(nodes, random),
                    _ => change(&mut inside, random),
                }
            }
            inside.to_string()
        }
        (Err(_), _) => "{".to_owned(),
    };
    metadata.insert(key, json!(next));
    Some(())
}

/// A node of a graph, in a way that often leaves a graph.
fn node(nodes: &mut Vec<Value>, random: &mut Random) {
    if nodes.is_empty() {
        return;
    }
    let (at, other) = (random.below(nodes.len()), random.below(nodes.len()));
    let is_row = |node: &Value| node.as_array().is_some_and(|row| row.len() >= 4);
    if ![0, at, other].iter().all(|i| is_row(&nodes[*i])) {
        return change(&mut nodes[at], random);
    }
    match random.below(10) {
        // The input's size, which all shapes follow from.
        0 => {
            let side = *random.pick(&[1, 2, 3, 5, 8, 9, 16, 31, 64, 4096, 16_384]);
            nodes[0][1] = json!({ "input": [3, side, *random.pick(&[side, side, 1, 7])] });
        }
        1 => {
            let zero_point = random.below(256);
            nodes[at][2] = match random.below(4) {
                0 => Value::Null,
                1 => json!([zero_point, random.below(256)]),
                2 => json!({ "fake": [zero_point, random.below(256)] }),
                _ => json!(zero_point),
            };
        }
        2 => nodes[at][3] = nodes[other][3].clone(),
        3 => {
            let inputs: Vec<usize> = (0..=random.below(3)).map(|_| random.below(nodes.len())).collect();
            nodes[at][3] = json!(inputs);
        }
        4 => {
            let ops = [
                json!("quant"),
                json!("dequant"),
                json!("mean"),
                json!("avg_pool"),
                json!("flatten"),
                json!("add"),
                json!("add_relu"),
                json!("mul"),
                json!("cat"),
                json!({ "act": "silu" }),
                json!({ "act": "relu6" }),
                json!({ "chunk": [random.below(3), *random.pick(&[1, 2, 4])] }),
                json!({ "shuffle": *random.pick(&[1, 2, 4, 8]) }),
                json!({ "max_pool": { "kernel": 1 + random.below(4), "stride": 1 + random.below(3),
                                      "padding": random.below(3) } }),
                json!({ "dropout": 0.5 }),
            ];
            nodes[at][1] = random.pick(&ops).clone();
        }
        5 => {
            // A convolution's stride, padding, groups.
            if let Some(conv) = nodes[at][1].get_mut("conv").and_then(Value::as_array_mut) {
                let part = random.below(conv.len());
                conv[part] = match part {
                    3 | 4 => json!(random.one_in(2)),
                    _ => json!(*random.pick(&[0, 1, 2, 3, 5, 8, 100, 1 << 20])),
                };
            }
        }
        6 => {
            let again = nodes[at].clone();
            nodes.insert(other, again);
        }
        7 => drop(nodes.remove(at)),
        8 => nodes.swap(at, other),
        _ => change(&mut nodes[at], random),
    }
}

/// Some value in the tree, replaced, removed, doubled.
fn change(value: &mut Value, random: &mut Random) {
    let deeper = !random.one_in(4);
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            if random.one_in(12) {
                map.remove(&key);
            } else if let Some(inside) = map.get_mut(&key) {
                change(inside, random);
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(12) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                _ => change(&mut items[at], random),
            }
        }
        other => {
            let text = *random.pick(&NUMBERS);
            let nested = || (0..200).fold(json!(0), |inside, _| json!([inside]));
            *other = match random.below(10) {
                0 => Value::Null,
                1 => json!(""),
                2 => json!("x".repeat(5000)),
                3 => json!([]),
                4 => json!({}),
                5 => json!(true),
                6 if random.one_in(8) => nested(),
                _ => serde_json::from_str(text).unwrap_or(Value::Null),
            };
        }
    }
}

/// The first key and its value, twice.
fn double_key(text: &str, random: &mut Random) -> String {
    let places: Vec<usize> = text.match_indices("\":").map(|(i, _)| i).collect();
    if places.is_empty() {
        return text.to_owned();
    }
    let colon = *random.pick(&places);
    let Some(start) = text[..colon].rfind('"') else { return text.to_owned() };
    let value = ["0", "null", "{}", "[]"];
    format!("{}{}\":{},{}", &text[..start], &text[start..colon], random.pick(&value), &text[start..])
}

/// A value so deep that a reader which recurses runs out of stack.
fn deep(text: &str, random: &mut Random) -> String {
    let depth = *random.pick(&[130, 5_000, 200_000]);
    let (open, close) = *random.pick(&[("[", "]"), ("{\"a\":", "}")]);
    let inside = format!("{}0{}", open.repeat(depth), close.repeat(depth));
    match text.find(':') {
        Some(colon) => format!("{}{inside},\"and\":{}", &text[..=colon], &text[colon + 1..]),
        None => inside,
    }
}

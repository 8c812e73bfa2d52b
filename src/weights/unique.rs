//! That no key of a JSON text is there twice: which of the two values was meant, nobody knows, and readers differ.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Any value, its keys looked at and nothing kept.
struct Once;

/// Looks at `json` to its end.
///
/// # Errors
/// The first key that an object has twice, or where the text is no JSON.
pub fn require_unique_keys(json: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<Once>(json).map(drop)
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if let Some(again) = seen.replace(key) {
                return Err(A::Error::custom(format!("the key `{again}` is there twice")));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_named_at_any_depth() {
        for json in [r#"{"a":1,"b":2,"a":1}"#, r#"{"x":[{"y":{"a":1,"a":{}}}]}"#] {
            let error = require_unique_keys(json).expect_err(json).to_string();
            assert!(error.contains("`a` is there twice"), "{error}");
        }
        require_unique_keys(r#"{"a":{"a":[1,-2,0.5,null,true,"a"]},"b":{"a":{}}}"#).expect("each once");
        require_unique_keys(&"[".repeat(100_000)).expect_err("too deep");
    }
}

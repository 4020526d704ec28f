//! Numbers that may be percentages, and the hash that names templates. Nothing here knows what they are used for.

use serde_json::Value;

/// A whole number, or a percentage of a whole; `None` if it is neither.
pub fn portion(value: &Value, of: i64, round_up: bool) -> Option<i64> {
    let Value::String(text) = value else { return value.as_i64() };
    let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
    let hundredths = percent.checked_mul(of)?;
    Some(if round_up { hundredths.saturating_add(99).div_euclid(100) } else { hundredths.div_euclid(100) })
}

/// A short name for a JSON value that is the same for equal values, in characters that make no words.
pub fn hash(value: &Value) -> String {
    const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut state = Fnv(0x811c_9dc5);
    state.value(value);
    state.0.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}

/// FNV-1a of 32 bits, over keys in their order.
struct Fnv(u32);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                let mut keys: Vec<&String> = fields.keys().collect();
                keys.sort_unstable();
                self.bytes(b"{");
                for key in keys {
                    self.bytes(key.as_bytes());
                    self.bytes(b"\0");
                    self.value(&fields[key]);
                }
                self.bytes(b"}");
            }
            Value::Array(elements) => {
                self.bytes(b"[");
                elements.iter().for_each(|element| self.value(element));
                self.bytes(b"]");
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.bytes(value.to_string().as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn percentages_are_rounded_as_asked() {
        for (value, of, up, down) in [
            (json!(3), 10, Some(3), Some(3)),
            (json!("25%"), 10, Some(3), Some(2)),
            (json!("0%"), 10, Some(0), Some(0)),
            (json!("100%"), 7, Some(7), Some(7)),
            (json!("150%"), 3, Some(5), Some(4)),
            (json!("25"), 10, None, None),
            (json!(null), 10, None, None),
        ] {
            assert_eq!((portion(&value, of, true), portion(&value, of, false)), (up, down), "{value}");
        }
    }

    #[test]
    fn equal_values_have_one_name_and_others_another() {
        let name = hash(&json!({"a": [1, "x"], "b": null}));
        assert_eq!(name, hash(&serde_json::from_str(r#"{"b": null, "a": [1, "x"]}"#).unwrap()));
        assert_ne!(name, hash(&json!({"a": [1, "y"], "b": null})));
        assert_ne!(hash(&json!({"a": {"b": 1}})), hash(&json!({"a": {}, "b": 1})));
        assert!(name.len() <= 10 && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
    }
}

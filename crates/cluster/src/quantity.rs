//! Kubernetes quantities: `100m`, `1.5`, `2Gi`, `1e3`.
//!
//! Kept in thousandths, which is the finest that scheduling looks at; what is finer counts as the next thousandth, as there.

use serde_json::Value;

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    milli: i128,
}

impl Quantity {
    /// None.
    pub const ZERO: Self = Self { milli: 0 };

    /// Thousandths.
    pub const fn from_milli(milli: i128) -> Self {
        Self { milli }
    }

    /// Thousandths.
    pub const fn milli(self) -> i128 {
        self.milli
    }

    /// As Kubernetes reads it; `None` is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || whole.len() + fraction.len() > 20 || fraction.contains('.') {
            return None;
        }
        let digits: i128 =
            if fraction.is_empty() { whole.parse() } else { format!("{whole}{fraction}").parse() }.ok()?;
        let (factor, exponent) = scale(suffix)?;
        let exponent = exponent + 3 - i32::try_from(fraction.len()).ok()?;
        let product = digits.checked_mul(factor)?;
        let milli = match u32::try_from(exponent) {
            Ok(exponent) => product.checked_mul(10_i128.checked_pow(exponent)?)?,
            Err(_) => ceil_div(product, 10_i128.checked_pow(exponent.unsigned_abs())?),
        };
        Some(Self { milli: if negative { -milli } else { milli } })
    }

    /// As it stands in an object: a text, or a number. Absent or unreadable is zero.
    pub fn of(value: &Value) -> Self {
        let read = match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        };
        read.unwrap_or_default()
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { milli: self.milli.saturating_add(other.milli) }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::ZERO, std::ops::Add::add)
    }
}

fn ceil_div(number: i128, by: i128) -> i128 {
    (number + by - 1) / by
}

/// A suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            // Beyond that nothing is left, or nothing fits.
            if !(-18..=18).contains(&exponent) {
                return None;
            }
            (1, exponent)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, milli) in [
            ("0", 0),
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            (".5", 500),
            ("2.", 2000),
            ("-1", -1000),
            ("+1", 1000),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("15e-1", 1500),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1Ei", 1_152_921_504_606_846_976_000),
            ("1500u", 2),
            ("1n", 1),
            ("0.0001", 1),
        ] {
            assert_eq!(Quantity::parse(text).map(Quantity::milli), Some(milli), "{text}");
        }
        for text in ["", "x", "1 Gi", "1gi", "1KiB", "--1", "1.2.3", ".", "m", "1e", "1e99", "99999999999999999999999"]
        {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_absent_or_unreadable_is_zero() {
        let sum: Quantity =
            [json!("500m"), json!(2), json!(0.5), json!(null), json!("x")].iter().map(Quantity::of).sum();
        assert_eq!(sum, Quantity::from_milli(3000));
    }
}

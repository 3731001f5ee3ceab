//! A Kubernetes quantity that may be written as a number or as a string.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// An amount such as `8Gi`, `500m` or `2`, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

/// A quantity that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a quantity such as 8Gi, 500m or 2")]
pub struct QuantityError(pub String);

impl Quantity {
    /// The amount in thousandths of its unit, rounded up; this is the finest step
    /// Kubernetes knows.
    pub fn millis(&self) -> Result<i128, QuantityError> {
        let error = || QuantityError(self.0.clone());
        let text = self.0.trim();
        let split = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let negative = whole.starts_with('-');
        let whole = whole.trim_start_matches(['+', '-']);
        if whole.is_empty() && fraction.is_empty() {
            return Err(error());
        }
        // (numerator, denominator) of the suffix, in thousandths.
        let (up, down): (i128, i128) = match suffix {
            "n" => (1, 1_000_000),
            "u" => (1, 1_000),
            "m" => (1, 1),
            "" => (1_000, 1),
            "k" => (1_000_000, 1),
            "M" => (1_000_000_000, 1),
            "G" => (1_000_000_000_000, 1),
            "T" => (1_000_000_000_000_000, 1),
            "P" => (1_000_000_000_000_000_000, 1),
            "E" => (1_000_000_000_000_000_000_000, 1),
            "Ki" => (1_000 << 10, 1),
            "Mi" => (1_000 << 20, 1),
            "Gi" => (1_000 << 30, 1),
            "Ti" => (1_000 << 40, 1),
            "Pi" => (1_000 << 50, 1),
            "Ei" => (1_000 << 60, 1),
            exponent if exponent.starts_with(['e', 'E']) => {
                let power: i32 = exponent[1..].parse().map_err(|_| error())?;
                match power {
                    0..=18 => (1_000 * 10_i128.pow(power.unsigned_abs()), 1),
                    -18..0 => (1_000, 10_i128.pow(power.unsigned_abs())),
                    _ => return Err(error()),
                }
            }
            _ => return Err(error()),
        };
        let places = u32::try_from(fraction.len()).map_err(|_| error())?;
        let scale = 10_i128.checked_pow(places).ok_or_else(error)?;
        let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| error())?;
        let product = digits.checked_mul(up).ok_or_else(error)?;
        let divisor = scale.checked_mul(down).ok_or_else(error)?;
        let value = (product + divisor - 1) / divisor;
        Ok(if negative { -value } else { value })
    }
}

impl From<&Quantity> for KubeQuantity {
    fn from(quantity: &Quantity) -> Self {
        KubeQuantity(quantity.0.clone())
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity, as a number or a string")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Quantity, E> {
                Ok(Quantity(v.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "pattern": "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]{1,2}))?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_compare_equal_however_written() {
        let millis = |text: &str| Quantity(text.into()).millis();
        assert_eq!(millis("1000m"), millis("1"));
        assert_eq!(millis("1024Mi"), millis("1Gi"));
        assert_eq!(millis("1.5Gi"), millis("1536Mi"));
        assert_eq!(millis("1e3"), millis("1k"));
        assert_eq!(millis("0.1m"), Ok(1), "rounded up");
        assert_eq!(millis("-2"), Ok(-2_000));
        for bad in ["", "Gi", "8 Gi", "8gb", "1e99", "1.2.3"] {
            assert!(millis(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_number_is_read_as_well_as_a_string() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json).ok();
        assert_eq!(read("2"), Some(Quantity("2".into())));
        assert_eq!(read("\"2\""), Some(Quantity("2".into())));
        assert_eq!(read("null"), None);
    }
}

//! Whether a live object still is what was rendered.

use serde_json::Value;

use crate::api::Quantity;

/// Path of the first field that `wanted` sets and `live` has otherwise. What the
/// API server filled in beyond `wanted` does not count; amounts are compared as
/// amounts.
pub fn first_difference(wanted: &Value, live: &Value) -> Option<String> {
    difference(wanted, live).map(|path| path.trim_start_matches('.').to_owned())
}

fn difference(wanted: &Value, live: &Value) -> Option<String> {
    match (wanted, live) {
        (Value::Object(wanted), live) => wanted.iter().find_map(|(key, wanted)| {
            let absent = Value::Null;
            let live = live.get(key).unwrap_or(&absent);
            difference(wanted, live).map(|path| format!(".{key}{path}"))
        }),
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => wanted
            .iter()
            .zip(live)
            .enumerate()
            .find_map(|(i, (wanted, live))| difference(wanted, live).map(|p| format!("[{i}]{p}"))),
        (Value::String(a), Value::String(b)) if a != b => {
            let millis = |text: &String| Quantity(text.clone()).millis().ok();
            let equal = millis(a).is_some() && millis(a) == millis(b);
            (!equal).then(String::new)
        }
        (wanted, live) => (wanted != live).then(String::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_rendered_counts() {
        let wanted = json!({"spec": {"ports": [{"port": 1}], "size": "1024Mi"}});
        let live =
            json!({"spec": {"ports": [{"port": 1, "protocol": "TCP"}], "size": "1Gi", "x": 1}});
        assert_eq!(first_difference(&wanted, &live), None);
        let live = json!({"spec": {"ports": [{"port": 2}], "size": "1Gi"}});
        assert_eq!(
            first_difference(&wanted, &live).as_deref(),
            Some("spec.ports[0].port")
        );
        assert_eq!(
            first_difference(&wanted, &json!({})).as_deref(),
            Some("spec.ports")
        );
    }
}

//! What an exporter says about its place, checked as upstream checks it and written for the listing. Pure.
//!
//! Agents read every entry of the listing with the same rules, and one that breaks them breaks all of `attach`,
//! `search` and `who`: so nothing gets in that is not right. The error texts are upstream's.

use std::net::IpAddr;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::listing;

/// The longest description that is taken, in bytes of JSON.
const DESCRIPTION_BYTES_MAX: usize = 16 << 10;

/// A checked description.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The place's name; any text.
    pub name: String,
    /// What the exporter's port is, from 1.
    pub port: u64,
    /// The boards' parts.
    pub parts: Vec<Part>,
}

/// One part of a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Tags by which agents find it.
    pub compatible: Vec<String>,
    usb: Map<String, Value>,
    tcp: Map<String, Value>,
}

impl Description {
    /// Reads the argument of `register_place`.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub fn read(raw: &RawValue) -> Result<Self, String> {
        if raw.get().len() > DESCRIPTION_BYTES_MAX {
            return Err(format!("The description is longer than {DESCRIPTION_BYTES_MAX} bytes"));
        }
        let value: Value = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
        let fields = mapping(&value)?;
        for reserved in ["id", "host"] {
            if fields.contains_key(reserved) {
                return Err(format!(
                    "init_recursive() got multiple values for keyword argument '{reserved}'"
                ));
            }
        }
        // Upstream builds the parts first, so theirs is the first complaint.
        let parts = fields
            .get("parts")
            .map(|parts| items(parts)?.iter().map(part).collect())
            .transpose()?;
        require("Place", fields, &["name", "port", "parts"])?;
        let name = string("name", &fields["name"])?.to_owned();
        Ok(Self {
            name,
            port: positive("port", &fields["port"])?,
            parts: parts.unwrap_or_default(),
        })
    }

    /// The entry in the listing: what agents get.
    pub fn entry(&self, id: u64, host: IpAddr) -> String {
        let parts: Vec<Value> = self
            .parts
            .iter()
            .map(|part| serde_json::json!({ "compatible": part.compatible, "usb": part.usb, "tcp": part.tcp }))
            .collect();
        listing::write(&serde_json::json!({
            "name": self.name, "port": self.port, "parts": parts, "id": id, "host": host.to_string(),
        }))
    }
}

fn part(value: &Value) -> Result<Part, String> {
    let fields = mapping(value)?;
    let compatible = fields.get("compatible");
    let usb = interfaces(fields.get("usb"), usb)?;
    let tcp = interfaces(fields.get("tcp"), tcp)?;
    require("ExportedPart", fields, &["compatible"])?;
    let tags = compatible.and_then(Value::as_array).ok_or_else(|| {
        format!("compatible: Expected list, got {}", type_name(compatible.unwrap_or(&Value::Null)))
    })?;
    let tags = tags
        .iter()
        .enumerate()
        .map(|(index, tag)| Ok(string(&format!("compatible[{index}]"), tag)?.to_owned()));
    Ok(Part { compatible: tags.collect::<Result<_, String>>()?, usb, tcp })
}

/// `usb` or `tcp`: interfaces by name; absent means none.
fn interfaces(
    value: Option<&Value>,
    read: fn(&Map<String, Value>) -> Result<Value, String>,
) -> Result<Map<String, Value>, String> {
    let Some(value) = value else { return Ok(Map::new()) };
    let fields = value
        .as_object()
        .ok_or_else(|| format!("'{}' object has no attribute 'items'", type_name(value)))?;
    fields.iter().map(|(name, value)| Ok((name.clone(), read(mapping(value)?)?))).collect()
}

fn usb(fields: &Map<String, Value>) -> Result<Value, String> {
    require("UsbExportDesc", fields, &["usbid"])?;
    let id = string("usbid", &fields["usbid"])?;
    if !is_usb_id(id) {
        return Err("usbid: Invalid value".to_owned());
    }
    Ok(serde_json::json!({ "usbid": id }))
}

fn tcp(fields: &Map<String, Value>) -> Result<Value, String> {
    require("TcpExportDesc", fields, &["host", "port"])?;
    let host = string("host", &fields["host"])?;
    Ok(serde_json::json!({ "host": host, "port": positive("port", &fields["port"])? }))
}

/// A bus id of the Linux kernel, such as `1-5.2`: bus, hyphen, ports with dots; no number starts with 0.
fn is_usb_id(id: &str) -> bool {
    let number = |text: &str| {
        !text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
    };
    id.split_once('-').is_some_and(|(bus, ports)| number(bus) && ports.split('.').all(number))
}

fn mapping(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| {
        format!("init_recursive() argument after ** must be a mapping, not {}", type_name(value))
    })
}

fn items(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Object(fields) if fields.is_empty() => Ok(&[]),
        Value::Object(_) => Err("parts: Expected list, got dict".to_owned()),
        Value::String(_) => Err("parts: Expected list, got str".to_owned()),
        other => Err(format!("'{}' object is not iterable", type_name(other))),
    }
}

fn string<'a>(path: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{path}: Expected str, got {}", type_name(value)))
}

fn positive(path: &str, value: &Value) -> Result<u64, String> {
    match (value.as_u64(), type_name(value)) {
        (Some(number), _) if number > 0 => Ok(number),
        (_, "int") => Err(format!("{path}: Invalid value")),
        (_, other) => Err(format!("{path}: Expected int, got {other}")),
    }
}

/// Says which fields are missing, as Python does.
fn require(class: &str, fields: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !fields.contains_key(**name))
        .map(|name| format!("'{name}'"))
        .collect();
    let list = match missing.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
    };
    let plural = if missing.len() == 1 { "" } else { "s" };
    Err(format!(
        "{class}.__init__() missing {} required positional argument{plural}: {list}",
        missing.len()
    ))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Description, String> {
        Description::read(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_entry_has_the_fields_in_upstreams_order_and_no_others() {
        let place = read(
            r#"{"port":2189,"more":1,"parts":[{"tcp":{"shell":{"port":22,"host":"b\u00f6rd","x":0}},"compatible":["pi"]}],"name":"a"}"#,
        )
        .unwrap();
        assert_eq!(
            place.entry(7, "10.0.0.5".parse().unwrap()),
            r#"{"name": "a", "port": 2189, "parts": [{"compatible": ["pi"], "usb": {}, "tcp": {"shell": {"host": "b\u00f6rd", "port": 22}}}], "id": 7, "host": "10.0.0.5"}"#
        );
    }

    #[test]
    fn what_users_may_write_is_taken() {
        for json in [
            r#"{"name":"","port":1,"parts":[]}"#,
            r#"{"name":"a","port":70000,"parts":{}}"#,
            r#"{"name":"a","port":1,"parts":[{"compatible":[]}]}"#,
            r#"{"name":"a","port":1,"parts":[{"compatible":["x"],"usb":{"u":{"usbid":"1-5.2.10"}}}]}"#,
        ] {
            assert!(read(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_users_know() {
        let part = |part: &str| format!(r#"{{"name":"a","port":1,"parts":[{part}]}}"#);
        for (json, error) in [
            (r#"{"name":"a","port":"1","parts":[]}"#.to_owned(), "port: Expected int, got str"),
            (r#"{"name":"a","port":1.0,"parts":[]}"#.to_owned(), "port: Expected int, got float"),
            (r#"{"name":"a","port":true,"parts":[]}"#.to_owned(), "port: Expected int, got bool"),
            (r#"{"name":"a","port":0,"parts":[]}"#.to_owned(), "port: Invalid value"),
            (r#"{"name":"a","port":-1,"parts":[]}"#.to_owned(), "port: Invalid value"),
            (r#"{"name":5,"port":1,"parts":[]}"#.to_owned(), "name: Expected str, got int"),
            (
                r#"{"name":"a","port":1}"#.to_owned(),
                "Place.__init__() missing 1 required positional argument: 'parts'",
            ),
            (
                "{}".to_owned(),
                "Place.__init__() missing 3 required positional arguments: 'name', 'port', and 'parts'",
            ),
            (
                r#"{"name":"a","port":1,"parts":[],"id":5}"#.to_owned(),
                "init_recursive() got multiple values for keyword argument 'id'",
            ),
            (
                r#"{"name":"a","port":1,"parts":[],"host":"x"}"#.to_owned(),
                "init_recursive() got multiple values for keyword argument 'host'",
            ),
            ("[]".to_owned(), "init_recursive() argument after ** must be a mapping, not list"),
            (r#"{"name":"a","port":1,"parts":5}"#.to_owned(), "'int' object is not iterable"),
            (part("5"), "init_recursive() argument after ** must be a mapping, not int"),
            (
                part("{}"),
                "ExportedPart.__init__() missing 1 required positional argument: 'compatible'",
            ),
            (part(r#"{"compatible":"pi"}"#), "compatible: Expected list, got str"),
            (part(r#"{"compatible":["a",5]}"#), "compatible[1]: Expected str, got int"),
            (part(r#"{"compatible":[],"usb":[]}"#), "'list' object has no attribute 'items'"),
            (part(r#"{"compatible":[],"usb":{"u":{"usbid":5}}}"#), "usbid: Expected str, got int"),
            (part(r#"{"compatible":[],"usb":{"u":{"usbid":"0-1"}}}"#), "usbid: Invalid value"),
            (part(r#"{"compatible":[],"usb":{"u":{"usbid":"1-1\n"}}}"#), "usbid: Invalid value"),
            (part(r#"{"compatible":[],"usb":{"u":{"usbid":"1-1."}}}"#), "usbid: Invalid value"),
            (part(r#"{"compatible":[],"tcp":{"t":{"host":"h","port":0}}}"#), "port: Invalid value"),
            (
                part(r#"{"compatible":[],"tcp":{"t":{}}}"#),
                "TcpExportDesc.__init__() missing 2 required positional arguments: 'host' and 'port'",
            ),
        ] {
            assert_eq!(read(&json), Err(error.to_owned()), "{json}");
        }
    }
}

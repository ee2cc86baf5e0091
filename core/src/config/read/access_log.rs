//! `access_logs[]` of a listener.
//!
//! **Invariant:** a format that can't be rendered is an error here; a variable that nothing is known for is a warning.

use super::server::log_roller;
use crate::config::LogRoller;
use crate::config::keys;
use crate::config::log_format::{LogFormat, Template, Variable};
use crate::config::reader::{Fields, Reader, did_you_mean};
use crate::config::schema::AccessLog;
use crate::config::tree::{Node, Value};

pub(super) fn access_log(r: &mut Reader, node: &Node, global: &LogRoller) -> Option<AccessLog> {
    let fields = r.map(node, "access_log")?;
    let format = format(r, &fields);
    Some(AccessLog {
        path: fields.text(r, "log_path").unwrap_or_else(|| "stdout".into()),
        format: format.unwrap_or_else(LogFormat::default_text),
        roller: fields.with(r, "log_roller", log_roller).unwrap_or_else(|| global.clone()),
    })
}

/// The one of the three keys that says how a line looks.
fn format(r: &mut Reader, fields: &Fields<'_>) -> Option<LogFormat> {
    let text = fields.with(r, "log_format", |r, node| {
        let text = r.text(node).filter(|t| !t.is_empty())?;
        template(r, node, &text).map(LogFormat::Text)
    });
    let object = fields.with(r, "json_format", json_format);
    let json = fields.boolean(r, "json").unwrap_or(false).then(LogFormat::default_json);
    let mut given = [text, object, json].into_iter().flatten();
    let first = given.next();
    if given.next().is_some() {
        r.error(fields.node.place, "more than one of `log_format`, `json_format` and `json`", "keep one");
    }
    first
}

fn json_format(r: &mut Reader, node: &Node) -> Option<LogFormat> {
    let Value::Map(entries) = &node.value else {
        r.wrong_type(node, "a map");
        return None;
    };
    let mut object = Vec::with_capacity(entries.len());
    for entry in entries {
        let value = r.at(&entry.key, |r| {
            let text = r.text(&entry.node)?;
            template(r, &entry.node, &text)
        });
        object.extend(value.map(|template| (entry.key.clone(), template)));
    }
    (!object.is_empty()).then_some(LogFormat::Json(object))
}

fn template(r: &mut Reader, node: &Node, text: &str) -> Option<Template> {
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            r.error(node.place, error, "write `%name%` for a variable and `\\%` for a percent sign");
            return None;
        }
    };
    let format = LogFormat::Text(template);
    for variable in format.variables() {
        if let Variable::Unknown(name) = variable {
            let message = format!("there is no variable `{name}`: `-` stands there");
            r.warn(node.place, message, did_you_mean(keys::nearest(name, Variable::names())));
        }
    }
    match format {
        LogFormat::Text(template) => Some(template),
        LogFormat::Json(_) => None,
    }
}

//! One column: its source, its type, and what happens to absent and unconvertible values.

use std::sync::Arc;

use super::compiled::{Absent, Column, ExistingTypes, Source};
use super::names;
use crate::mapping::convert::Conversion;
use crate::mapping::definition::{
    ColumnDefinition, OnError, Problem, RowsDefinition, Span, Spanned,
};
use crate::mapping::path::Origin;
use crate::mapping::spec::{ColumnSpec, ColumnType};
use crate::mapping::template::{CaptureKind, CaptureNames};
use crate::model::AttributeValue;

/// A compiled column with its spec for the sink and its place in the file.
#[derive(Debug)]
pub(super) struct Drafted {
    pub(super) column: Column,
    pub(super) spec: ColumnSpec,
    pub(super) name: Spanned<String>,
    pub(super) from: Span,
    /// The kind of its capture, if it has one.
    pub(super) capture: Option<CaptureKind>,
}

/// The context in which columns are compiled.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The types of existing columns.
    pub(super) existing: ExistingTypes<'a>,
    /// The captures of the entity's key.
    pub(super) captures: &'a CaptureNames,
    /// Whether these are child rows.
    pub(super) child: bool,
    /// Whether a template could not be parsed, so that missing captures are not reported.
    pub(super) broken: bool,
}

/// Compiles the columns of one table in the order of the file.
pub(super) fn draft(
    rows: &RowsDefinition,
    scope: Scope<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Drafted> {
    let mut drafted: Vec<Drafted> = Vec::with_capacity(rows.columns.len());
    for definition in &rows.columns {
        names::check_column(&definition.name, problems);
        if definition.on_error.value == OnError::Rest && rows.rest.is_none() {
            problems.push(
                Problem::at(definition.on_error.span, "there is no `rest` column to put it in")
                    .with_hint("add rest = \"extra\" to the entity"),
            );
        }
        drafted.extend(one(definition, &rows.table.value, scope, problems));
    }
    if let Some(rest) = &rows.rest {
        names::check_column(rest, problems);
        if let Some(other) = drafted.iter().find(|drafted| drafted.name.value == rest.value) {
            let message = format!("the `rest` column `{}` is a column already", rest.value);
            let problem = Problem::at(rest.span, message);
            problems.push(problem.with_related(other.name.span, "the column"));
        }
    }
    drafted
}

/// Finds the primary key's columns by name and moves them to the front.
pub(super) fn keys_first(
    drafted: Vec<Drafted>,
    key: &[&Spanned<String>],
    problems: &mut Vec<Problem>,
) -> Vec<Drafted> {
    let mut rest: Vec<_> = drafted.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(rest.len());
    for name in key {
        let found = rest
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(|drafted| drafted.name.value == name.value));
        match found.and_then(Option::take) {
            Some(mut drafted) => {
                check_key(&drafted, problems);
                drafted.spec.not_null = true;
                drafted.column.absent = Absent::Reject;
                let padded = matches!(drafted.capture, Some(CaptureKind::Int(Some(_))));
                drafted.column.conversion.exact = !padded;
                ordered.push(drafted);
            }
            None => {
                let message = format!("there is no column `{}` for the primary key", name.value);
                problems.push(Problem::at(name.span, message));
            }
        }
    }
    ordered.extend(rest.into_iter().flatten());
    ordered
}

/// A column of the primary key must keep different values apart, and never be NULL.
fn check_key(drafted: &Drafted, problems: &mut Vec<Problem>) {
    let Drafted { column, spec, name, .. } = drafted;
    let mut refuse = |what: &str| {
        let message = format!("`{}` is in the primary key, so it cannot {what}", name.value);
        problems.push(
            Problem::at(name.span, message).with_hint("two items could hit one row, or none"),
        );
    };
    match spec.column_type {
        ColumnType::Real | ColumnType::Double => refuse("be a float, which rounds"),
        ColumnType::Jsonb | ColumnType::Array(_) => refuse("be a document or an array"),
        _ => {}
    }
    if column.conversion.value_map.is_some() {
        refuse("have a `map`");
    }
    if matches!(column.absent, Absent::Default(_)) {
        refuse("have a `default`");
    }
    if column.on_error != OnError::DeadLetter {
        refuse("have an `on_error`");
    }
}

fn one(
    definition: &ColumnDefinition,
    table: &str,
    scope: Scope<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Drafted> {
    let from = &definition.from;
    let found = match definition.constant {
        Some(_) => Ok((Source::Constant(String::new()), None)),
        None => source(from, scope),
    };
    let (mut source, capture) = match found {
        Ok(found) => found,
        Err(problem) => {
            problems.extend(problem);
            return None;
        }
    };
    let column_type = match &definition.column_type {
        Some(written) => match ColumnType::parse(&written.value) {
            Ok(known) => known,
            Err(error) => {
                let mut problem = Problem::at(written.span, error.message.as_str());
                problem.hint = error.hint();
                problems.push(problem);
                return None;
            }
        },
        None => (scope.existing)(table, &definition.name.value).unwrap_or_else(|| {
            match (&source, capture) {
                (_, Some(kind)) => kind.column_type(),
                (Source::Index, _) => ColumnType::Integer,
                _ => ColumnType::Text,
            }
        }),
    };
    check_type(definition, &source, capture, &column_type, problems);
    let mut conversion = Conversion::to(column_type.clone());
    conversion.nul = definition.nul;
    conversion.epoch = definition.epoch.as_ref().map(|epoch| epoch.value);
    if let Some(constant) = &definition.constant {
        source = self::constant(constant, &conversion, problems)?;
    }
    let absent = absent(definition, &conversion, problems);
    conversion.value_map = value_map(definition, &conversion, problems);
    let always = matches!(source, Source::Capture(_) | Source::Index | Source::Constant(_));
    let fills = absent != Absent::Null || always;
    let not_null = fills && !matches!(definition.on_error.value, OnError::Null | OnError::Rest);
    let name = definition.name.clone();
    let spec = ColumnSpec { name: name.value.clone(), column_type, not_null };
    let place = Arc::from(name.as_str());
    let on_error = definition.on_error.value;
    let column = Column { place, source, conversion, absent, on_error };
    Some(Drafted { column, spec, name, from: from.span, capture })
}

fn source(
    from: &Spanned<String>,
    scope: Scope<'_>,
) -> Result<(Source, Option<CaptureKind>), Option<Problem>> {
    let only_children = |word: &str| {
        Problem::at(from.span, format!("{word} is for child rows"))
            .with_hint("child tables stand under [source.NAME.entity.ENTITY.children.CHILD]")
    };
    let wrong = |message| Some(Problem::at(from.span, message));
    match Origin::parse(&from.value).map_err(wrong)? {
        Origin::Path(path) => Ok((Source::Path(path), None)),
        Origin::Index if scope.child => Ok((Source::Index, None)),
        Origin::Key if scope.child => Ok((Source::Key, None)),
        Origin::Value if scope.child => Ok((Source::Value, None)),
        Origin::Index => Err(Some(only_children("@index"))),
        Origin::Key => Err(Some(only_children("@key"))),
        Origin::Value => Err(Some(only_children("@value"))),
        Origin::Capture(name) => match scope.captures.slot(&name) {
            Some(slot) => {
                let kind = scope.captures.0.get(slot).map(|(_, kind)| *kind);
                Ok((Source::Capture(slot), kind))
            }
            None if scope.broken => Err(None),
            None => {
                let known: Vec<_> =
                    scope.captures.0.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                let problem = Problem::at(from.span, format!("the key captures no `{{{name}}}`"));
                Err(Some(if known.is_empty() {
                    problem.with_hint("the key has no captures")
                } else {
                    problem.with_hint(format!("it captures {}", known.join(", ")))
                }))
            }
        },
    }
}

fn check_type(
    definition: &ColumnDefinition,
    source: &Source,
    capture: Option<CaptureKind>,
    column_type: &ColumnType,
    problems: &mut Vec<Problem>,
) {
    use ColumnType as T;
    let span = definition.column_type.as_ref().map_or(definition.name.span, |written| written.span);
    let fits = match (source, capture) {
        (Source::Index, _) => {
            matches!(column_type, T::Integer | T::BigInt | T::Numeric(None) | T::Text)
        }
        (_, Some(CaptureKind::Int(_))) => matches!(
            column_type,
            T::SmallInt | T::Integer | T::BigInt | T::Numeric(_) | T::Text | T::Varchar(_)
        ),
        (_, Some(CaptureKind::Uuid)) => matches!(column_type, T::Uuid | T::Text | T::Varchar(_)),
        (_, Some(CaptureKind::Date)) => matches!(column_type, T::Date | T::Text | T::Varchar(_)),
        (_, Some(CaptureKind::Ulid)) => matches!(column_type, T::Text | T::Varchar(_)),
        _ => true,
    };
    if !fits && definition.value_map.is_none() {
        let message = format!("`{}` cannot become {column_type}", definition.from.value);
        problems.push(Problem::at(span, message));
    }
    let element = if let T::Array(element) = column_type { element } else { column_type };
    if let Some(epoch) = definition.epoch.as_ref().filter(|_| *element != T::Timestamptz) {
        let message = format!("`epoch` is for timestamptz, and this column is {column_type}");
        problems.push(Problem::at(epoch.span, message));
    }
}

/// The cell of a constant column.
fn constant(
    written: &Spanned<AttributeValue>,
    conversion: &Conversion,
    problems: &mut Vec<Problem>,
) -> Option<Source> {
    let mut text = String::new();
    match conversion.attribute(&written.value, &mut text) {
        Ok(()) => Some(Source::Constant(text)),
        Err(loss) => {
            let message =
                format!("the constant does not fit {}: {}", conversion.column_type, loss.detail);
            problems.push(Problem::at(written.span, message));
            None
        }
    }
}

fn absent(
    definition: &ColumnDefinition,
    conversion: &Conversion,
    problems: &mut Vec<Problem>,
) -> Absent {
    if definition.on_error.value == OnError::Default && definition.default.is_none() {
        let problem = Problem::at(definition.on_error.span, "there is no `default` to use");
        problems.push(problem);
    }
    let Some(default) = &definition.default else {
        return if definition.required { Absent::Reject } else { Absent::Null };
    };
    if definition.required {
        let message = "a column is `required` or has a `default`, not both";
        problems.push(Problem::at(default.span, message));
    }
    let mut text = String::new();
    match conversion.attribute(&default.value, &mut text) {
        Ok(()) => Absent::Default(text),
        Err(loss) => {
            let message =
                format!("the default does not fit {}: {}", conversion.column_type, loss.detail);
            problems.push(Problem::at(default.span, message));
            Absent::Null
        }
    }
}

fn value_map(
    definition: &ColumnDefinition,
    conversion: &Conversion,
    problems: &mut Vec<Problem>,
) -> Option<Vec<(String, String)>> {
    let written = definition.value_map.as_ref()?;
    let mut canonical = Vec::with_capacity(written.value.len());
    for (from, to) in &written.value {
        let mut text = String::new();
        match conversion.attribute(&AttributeValue::S(to.clone()), &mut text) {
            Ok(()) => canonical.push((from.clone(), text)),
            Err(loss) => {
                let message = format!(
                    "`{to}` in the map does not fit {}: {}",
                    conversion.column_type, loss.detail
                );
                problems.push(Problem::at(written.span, message));
            }
        }
    }
    Some(canonical)
}

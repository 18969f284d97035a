//! One entity: its key, its own table and the tables of its children.

use std::sync::Arc;

use super::children::{self, Parent};
use super::columns::{self, Drafted, Scope};
use super::compiled::{Column, Entity, ExistingTypes, Rows, Source, within};
use super::rows::{rows, with_rest};
use super::{extras, names};
use crate::mapping::condition::Condition;
use crate::mapping::definition::{EntityDefinition, Problem, Spanned};
use crate::mapping::path::Origin;
use crate::mapping::spec::{Constant, TableSpec};
use crate::mapping::template::{CaptureNames, Template};
use crate::model::TableIndex;

/// Compiles an entity and adds its tables, its own before its children's.
pub(super) fn compile(
    definition: &EntityDefinition,
    existing: ExistingTypes<'_>,
    tables: &mut Vec<TableSpec>,
    problems: &mut Vec<Problem>,
) -> Option<Entity> {
    let before = problems.len();
    let entity: Arc<str> = Arc::from(definition.name.as_str());
    let mut captures = CaptureNames::default();
    let mut keys = keys(definition, &mut captures, problems);
    let broken = keys.len() < definition.key.len();
    let scope = Scope { existing, captures: &captures, child: false, broken };
    let drafted = columns::draft(&definition.rows, scope, problems);
    if definition.key.is_empty() && !definition.needs_keys() {
        keys = keys_from_columns(definition, &drafted, problems);
    }
    let key_names = primary_key(definition, &keys, &captures, &drafted, problems);
    let drafted = columns::keys_first(drafted, &key_names, problems);
    let table = names::table_name(&definition.rows.table, problems);
    let filter = filter(definition, problems);
    let (rows, specs) = rows(&definition.rows, drafted, key_names.len(), problems);
    let needs_image_for = needs_image_for(&rows, &keys);
    let constants = constants(&rows);
    let one_item = !keys.is_empty() && keys.iter().all(|(_, template)| template.is_literal());
    if constants.len() == key_names.len() && !one_item {
        one_row_for_all(definition, problems);
    }
    let index = TableIndex(u16::try_from(tables.len()).unwrap_or(u16::MAX));
    let parent = Parent {
        entity: Arc::clone(&entity),
        table: index,
        entity_keys: key_names.len(),
        place: None,
        keys: specs.iter().take(key_names.len()).cloned().collect(),
        sources: rows.columns.iter().take(key_names.len()).map(|c| c.source.clone()).collect(),
        constants: constants.clone(),
        scope,
    };
    let mut own = TableSpec {
        name: table.unwrap_or_default(),
        entity: Arc::clone(&entity),
        columns: specs,
        key_columns: key_names.len(),
        constants,
        names_items: needs_image_for.is_some(),
        ..TableSpec::default()
    };
    let soft = extras::soft_delete(definition, &mut own, problems);
    own.extras = extras::extras(&definition.rows, &own, problems);
    let history = extras::history(definition, index, &own, problems);
    tables.push(own);
    let children = children::compile(&definition.children, &parent, tables, problems);
    // After its table: the sink writes a row before its history.
    let history = history.map(|history| {
        tables.push(history);
        TableIndex(u16::try_from(tables.len() - 1).unwrap_or(u16::MAX))
    });
    if problems.len() > before {
        return None;
    }
    let rows = with_rest(rows, &definition.rows, &keys, &children);
    let on_delete = definition.on_delete;
    let on_ttl = definition.on_ttl.unwrap_or(on_delete);
    Some(Entity {
        name: entity,
        keys,
        filter,
        on_delete,
        on_ttl,
        table: index,
        soft,
        history,
        rows,
        children,
        needs_image_for,
    })
}

fn keys(
    definition: &EntityDefinition,
    captures: &mut CaptureNames,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Template)> {
    let mut keys = Vec::with_capacity(definition.key.len());
    for key in &definition.key {
        match Template::parse(&key.template.value, captures) {
            Ok(template) => keys.push((key.attribute.value.clone(), template)),
            Err(error) => {
                let problem = Problem::at(within(&key.template, &error.range), error.message);
                problems.push(match error.other {
                    Some(other) => {
                        problem.with_related(within(&key.template, &other), "the first capture")
                    }
                    None => problem,
                });
            }
        }
    }
    keys
}

/// A plain table may omit `key`: the columns of its `primary_key` then name the key attributes.
fn keys_from_columns(
    definition: &EntityDefinition,
    drafted: &[Drafted],
    problems: &mut Vec<Problem>,
) -> Vec<(String, Template)> {
    let hint = "name the table's key attributes: key = { id = \"{id}\" } with the column \
                id = \"{id}\"";
    let Some(primary_key) = &definition.rows.primary_key else {
        let message = format!("`{}` has no key", definition.name.value);
        problems.push(Problem::at(definition.name.span, message).with_hint(hint));
        return Vec::new();
    };
    let mut keys = Vec::with_capacity(primary_key.len());
    for name in primary_key {
        let column = drafted.iter().find(|drafted| drafted.name.value == name.value);
        match column.map(|drafted| &drafted.column.source) {
            Some(Source::Path(path)) if path.steps.is_empty() => {
                keys.push((path.root.clone(), Template::whole(None)));
            }
            Some(Source::Constant(_)) => {}
            Some(_) => {
                let message = format!("the column `{}` is not a key attribute itself", name.value);
                problems.push(Problem::at(name.span, message).with_hint(hint));
            }
            // `keys_first` reports a column that does not exist.
            None => {}
        }
    }
    keys
}

/// The primary key's columns: those named, or those of the captures in the order of the key.
fn primary_key<'a>(
    definition: &'a EntityDefinition,
    keys: &[(String, Template)],
    captures: &CaptureNames,
    drafted: &[Drafted],
    problems: &mut Vec<Problem>,
) -> Vec<&'a Spanned<String>> {
    if let Some(named) = &definition.rows.primary_key {
        if named.is_empty() {
            let problem = Problem::at(definition.rows.table.span, "the `primary_key` is empty");
            problems.push(problem);
        }
        return named.iter().collect();
    }
    if definition.key.is_empty() || keys.len() != definition.key.len() {
        return Vec::new();
    }
    let place = definition.key.last().map_or(definition.name.span, |key| key.template.span);
    if keys.iter().any(|(_, template)| template.discards()) {
        let message = "the key discards a part with {_}, so two items could hit one row";
        let hint = "capture it, or set primary_key = [\"…\"]";
        problems.push(Problem::at(place, message).with_hint(hint));
    }
    if captures.0.is_empty() && !keys.is_empty() {
        let message = "the key captures nothing, so the table has no primary key";
        let hint = "set primary_key = [\"…\"] with a column that every item has";
        problems.push(Problem::at(place, message).with_hint(hint));
    }
    let mut names = Vec::new();
    for (capture, _) in &captures.0 {
        let takes = |from: &str| Origin::parse(from) == Ok(Origin::Capture(capture.clone()));
        let mut columns = definition.rows.columns.iter();
        if let Some(column) = columns.find(|column| takes(&column.from.value)) {
            // A wrong column is already reported.
            names.extend(drafted.iter().any(|own| own.name == column.name).then_some(&column.name));
        } else {
            let message = format!("no column takes `{{{capture}}}`, which is part of the key");
            let hint = format!("add the column {capture} = \"{{{capture}}}\"");
            problems.push(Problem::at(place, message).with_hint(hint));
        }
    }
    names
}

fn filter(definition: &EntityDefinition, problems: &mut Vec<Problem>) -> Option<Condition> {
    let written = definition.filter.as_ref()?;
    match Condition::parse(&written.value) {
        Ok(condition) => Some(condition),
        Err(error) => {
            problems.push(Problem::at(within(written, &error.range), error.message));
            None
        }
    }
}

/// The primary key's columns with the same value in every row.
fn constants(rows: &Rows) -> Vec<Constant> {
    let keys = rows.columns.iter().take(rows.key_columns).enumerate();
    let constant = |(at, column): (usize, &Column)| match &column.source {
        Source::Constant(value) => Some(Constant { column: at, value: value.clone() }),
        _ => None,
    };
    keys.filter_map(constant).collect()
}

/// Rejects a primary key of constants alone, which allows only one row.
fn one_row_for_all(definition: &EntityDefinition, problems: &mut Vec<Problem>) {
    let Some(named) = definition.rows.primary_key.as_ref().filter(|named| !named.is_empty()) else {
        return;
    };
    let place = named.first().map_or(definition.name.span, |name| name.span);
    let message = "the primary key is a constant, so all items would hit one row";
    let problem = Problem::at(place, message);
    problems.push(problem.with_hint("add a column that differs between items"));
}

/// The first primary-key column that neither the captures nor the key attributes can fill.
fn needs_image_for(rows: &Rows, keys: &[(String, Template)]) -> Option<Arc<str>> {
    let from_keys = |column: &Column| match &column.source {
        Source::Path(path) => keys.iter().any(|(attribute, _)| *attribute == path.root),
        _ => true,
    };
    let mut columns = rows.columns.iter().take(rows.key_columns);
    columns.find(|column| !from_keys(column)).map(|column| Arc::clone(&column.place))
}

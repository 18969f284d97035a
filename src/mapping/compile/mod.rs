//! Compiles a definition into a mapper, once at the start; it finds everything wrong with a mapping.

mod children;
mod columns;
mod compiled;
mod entity;
mod extras;
mod names;
mod rows;

use super::definition::{Problem, SourceDefinition};
pub(crate) use compiled::*;

/// Compiles a source's mapping, or finds everything wrong with it.
pub(crate) fn compile(
    definition: &SourceDefinition,
    existing: ExistingTypes<'_>,
) -> Result<Compiled, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut tables = Vec::new();
    let mut entities = Vec::new();
    if definition.entities.is_empty() {
        let name = &definition.name;
        let message = format!("source `{}` maps nothing", name.value);
        problems.push(
            Problem::at(name.span, message)
                .with_hint("give it `columns`, or entities as [source.NAME.entity.ENTITY]"),
        );
    }
    for entity in &definition.entities {
        if let Some(entity) = entity::compile(entity, existing, &mut tables, &mut problems) {
            entities.push(entity);
        }
    }
    check_overlaps(definition, &entities, &mut problems);
    names::check_tables(definition, &mut problems);
    if problems.is_empty() {
        Ok(Compiled { tables, entities })
    } else {
        problems.sort_by_key(|problem| problem.span);
        Err(problems)
    }
}

/// Two entities may share a key only if each has a filter.
fn check_overlaps(definition: &SourceDefinition, entities: &[Entity], problems: &mut Vec<Problem>) {
    if entities.len() != definition.entities.len() {
        return;
    }
    for (index, (left, left_definition)) in entities.iter().zip(&definition.entities).enumerate() {
        let others = entities.iter().zip(&definition.entities).skip(index + 1);
        for (right, right_definition) in others {
            if (left.filter.is_some() && right.filter.is_some()) || !left.overlaps(right) {
                continue;
            }
            let place = |definition: &crate::mapping::definition::EntityDefinition| {
                definition.key.last().map_or(definition.name.span, |key| key.template.span)
            };
            let message = format!(
                "entities `{}` and `{}` overlap: one key can match both",
                left.name, right.name
            );
            problems.push(
                Problem::at(place(right_definition), message)
                    .with_related(place(left_definition), "the other template")
                    .with_hint(
                        "give the captures types (int, uuid, date, ulid), or each entity a `where` \
                         that tells them apart",
                    ),
            );
        }
    }
}

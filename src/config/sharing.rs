//! Several sources in one table: allowed only if a column of the primary key tells their rows apart.
//!
//! Each source then has its own rows there, whatever their keys: no change, sweep or verification of one
//! source touches a row of another.

use super::SourceConfig;
use crate::mapping::definition::{Problem, Span};
use crate::mapping::spec::{ColumnType, Constant, TableName, TableSpec};

/// A target table of a source.
#[derive(Clone, Copy)]
struct Filled<'a> {
    source: &'a SourceConfig,
    table: &'a TableSpec,
}

/// Refuses tables of several sources, unless each marks its rows with a constant.
pub(super) fn check(sources: &[SourceConfig], problems: &mut Vec<Problem>) {
    let mut seen: Vec<Filled<'_>> = Vec::new();
    for source in sources {
        let own = source.mapper.tables().iter().map(|table| Filled { source, table });
        let own: Vec<_> = own.collect();
        for filled in &own {
            let others = seen.iter().filter(|other| other.table.name.is(&filled.table.name));
            problems.extend(others.filter_map(|other| conflict(*filled, *other)).take(1));
        }
        seen.extend(own);
    }
}

/// Why the two cannot share their table.
fn conflict(own: Filled<'_>, other: Filled<'_>) -> Option<Problem> {
    let (message, hint) = unlike(own, other).or_else(|| undivided(own, other))?;
    let label = format!("the source `{}`", other.source.name);
    Some(Problem::at(own.span(), message).with_related(other.span(), label).with_hint(hint))
}

type Why = Option<(String, String)>;

/// Whether nothing tells their rows apart.
fn undivided(own: Filled<'_>, other: Filled<'_>) -> Why {
    let (name, one, two) = (&own.table.name, &other.source.name, &own.source.name);
    let theirs = |constant: &Constant| {
        let same = |other: &&Constant| other.column == constant.column;
        other.table.constants.iter().find(same)
    };
    let pairs: Vec<_> = own.table.constants.iter().filter_map(|c| Some((c, theirs(c)?))).collect();
    if pairs.iter().any(|(one, two)| one.value != two.value) {
        return None;
    }
    let column = |constant: &Constant| own.column(constant.column);
    if let Some((constant, _)) = pairs.first() {
        return Some((
            format!(
                "sources `{one}` and `{two}` both fill the table `{name}` with `{}` = \"{}\"",
                column(constant),
                constant.value
            ),
            "two items could hit one row: give each source its own constant".to_owned(),
        ));
    }
    Some((
        format!("sources `{one}` and `{two}` both fill the table `{name}`"),
        format!(
            "two items could hit one row: give each its own table; or, in both, a constant in the \
             primary key: primary_key = [\"origin\", …] with the column \
             origin = {{ const = \"{two}\" }}"
        ),
    ))
}

/// Whether the two mean different tables with one name.
fn unlike(own: Filled<'_>, other: Filled<'_>) -> Why {
    let name = &own.table.name;
    if own.hangs_on() != other.hangs_on() {
        return Some((
            format!("the table `{name}` is {} here and {} there", own.kind(), other.kind()),
            "a shared table must be filled in the same way; or give each source its own".to_owned(),
        ));
    }
    // Without dividing constants that is the problem, not the key's order.
    if own.table.constants.is_empty() || other.table.constants.is_empty() {
        return None;
    }
    if own.keys() != other.keys() {
        let list = |filled: Filled<'_>| filled.keys().join(", ");
        return Some((
            format!("`{name}` has the key ({}) here and ({}) there", list(own), list(other)),
            "name the same columns in the same order as `primary_key` in both".to_owned(),
        ));
    }
    let differs = own.table.columns.iter().find_map(|column| {
        let theirs = other.table.columns.iter().find(|theirs| theirs.name == column.name)?;
        (theirs.column_type != column.column_type).then_some((column, theirs))
    });
    if let Some((column, theirs)) = differs {
        let (own_type, their_type) = (&column.column_type, &theirs.column_type);
        return Some((
            format!("`{name}.{}` is {own_type} here and {their_type} there", column.name),
            "use the same type in both".to_owned(),
        ));
    }
    if let Some(named) = own.table.constants.iter().find(|own_constant| {
        let column = own.table.columns.get(own_constant.column);
        column.is_some_and(|column| matches!(column.column_type, ColumnType::Named(_)))
    }) {
        return Some((
            format!("`{name}.{}` is of a type of your own", own.column(named.column)),
            "its equality is not known here: tell the sources apart by a text column".to_owned(),
        ));
    }
    commented_otherwise(own, other)
}

/// Whether the two set different comments: `plan` would never be done.
fn commented_otherwise(own: Filled<'_>, other: Filled<'_>) -> Why {
    let (name, one, two) = (&own.table.name, &own.table.extras, &other.table.extras);
    let hint = || "set it in one of the two".to_owned();
    if one.comment.is_some() && two.comment.is_some() && one.comment != two.comment {
        return Some((format!("the table `{name}` has two comments"), hint()));
    }
    let twice = one.column_comments.iter().find(|(column, comment)| {
        let mut theirs = two.column_comments.iter();
        theirs.any(|(other, theirs)| other == column && theirs != comment)
    });
    let mark = |filled: Filled<'_>| {
        let at = filled.table.deleted_at?;
        filled.table.columns.get(at).map(|column| column.name.clone())
    };
    let has = |filled: Filled<'_>, name: &str| filled.table.columns.iter().any(|c| c.name == name);
    let marked = [(own, other), (other, own)].into_iter().find_map(|(one, two)| {
        mark(one)
            .filter(|mark_of_one| mark(two).as_ref() != Some(mark_of_one) && has(two, mark_of_one))
    });
    match (twice, marked) {
        (Some((column, _)), _) => Some((format!("`{name}.{column}` has two comments"), hint())),
        (None, Some(mark)) => Some((
            format!(
                "`{name}.{mark}` marks deleted rows for one source and is an attribute of the other"
            ),
            "rename the soft-delete column: deleted_at = \"gone_at\"".to_owned(),
        )),
        (None, None) => None,
    }
}

impl Filled<'_> {
    /// Where the file names the table.
    fn span(&self) -> Span {
        let definition = &self.source.definition;
        let name = |text: &str| {
            let (schema, name) = text.split_once('.').map_or((None, text), |(s, n)| (Some(s), n));
            TableName { schema: schema.map(str::to_owned), name: name.to_owned() }
        };
        let mut tables = definition.tables();
        let found = tables.find(|table| name(table.as_str()).is(&self.table.name));
        found.map_or(definition.name.span, |table| table.span)
    }

    fn column(&self, at: usize) -> &str {
        self.table.columns.get(at).map_or("", |column| column.name.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        (0..self.table.key_columns).map(|at| self.column(at)).collect()
    }

    /// The parent of its rows, and whether they are versions.
    fn hangs_on(&self) -> Option<(String, bool)> {
        let parent = self.table.parent.map(|parent| (parent.table, false));
        let (at, versions) = parent.or(self.table.history_of.map(|of| (of, true)))?;
        let name = &self.source.mapper.tables().get(usize::from(at.0))?.name;
        let schema = name.schema.as_deref().unwrap_or("public");
        Some((format!("{schema}.{}", name.name), versions))
    }

    fn kind(&self) -> String {
        let own = || "a table of its own".to_owned();
        self.hangs_on().map_or_else(own, |(of, versions)| {
            if versions {
                format!("the history of `{of}`")
            } else {
                format!("of child rows of `{of}`")
            }
        })
    }
}

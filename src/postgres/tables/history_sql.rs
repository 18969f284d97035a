//! The SQL of histories. `ident` quotes every name, every value is a parameter; our own names have a prefix.

use crate::error::Result;
use crate::mapping::spec::{ColumnSpec, HISTORY_COLUMNS, HISTORY_ENDS, TableSpec, VERSION_COLUMN};
use crate::postgres::sql::columns::{
    distinct, key_columns, listed, mark, names, paired, unnested, unnested_version,
};
use crate::postgres::sql::ident::{quoted, quoted_table};
use crate::postgres::sql::words::{generation_of, is_of_load, item_of, may_be_one_item};

/// Where the rows of a history come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Adding {
    /// A batch.
    Batch,
    /// A batch of a newer generation, in which records may come again.
    Again,
    /// A repair: an item read under the table's lock is the row's newest version, whatever version the row
    /// has.
    Repair,
}

/// A history and its table, with their names quoted.
pub(in crate::postgres) struct Histories<'a> {
    pub(in crate::postgres) spec: &'a TableSpec,
    pub(in crate::postgres) of: &'a TableSpec,
    pub(in crate::postgres) table: String,
    pub(in crate::postgres) of_table: String,
    pub(in crate::postgres) version: String,
    pub(in crate::postgres) op: String,
    pub(in crate::postgres) valid_from: String,
    pub(in crate::postgres) valid_to: String,
    /// The words for the end of a row.
    pub(in crate::postgres) ends: String,
}

impl<'a> Histories<'a> {
    /// The history `spec` of the table `of`.
    pub(in crate::postgres) fn new(spec: &'a TableSpec, of: &'a TableSpec) -> Result<Self> {
        let [op, valid_from, valid_to] = HISTORY_COLUMNS.map(quoted);
        Ok(Self {
            spec,
            of,
            table: quoted_table(&spec.name)?,
            of_table: quoted_table(&of.name)?,
            version: quoted(VERSION_COLUMN)?,
            op: op?,
            valid_from: valid_from?,
            valid_to: valid_to?,
            ends: HISTORY_ENDS.map(|end| format!("'{end}'")).join(", "),
        })
    }

    /// The history's name, for messages.
    pub(in crate::postgres) fn label(&self) -> String {
        self.spec.name.to_string()
    }

    /// How many columns it has.
    pub(in crate::postgres) fn columns(&self) -> usize {
        self.spec.columns.len()
    }

    /// The columns of the row's key.
    pub(in crate::postgres) fn keys(&self) -> &'a [ColumnSpec] {
        key_columns(self.of)
    }

    /// The columns that show the row: all of it except its key and the mark of a soft delete.
    pub(in crate::postgres) fn shown(&self) -> &'a [ColumnSpec] {
        let (first, last) = (self.of.key_columns + 1, self.spec.columns.len());
        self.spec.columns.get(first..last - HISTORY_COLUMNS.len()).unwrap_or_default()
    }

    /// That two rows have the same key of the table whose versions are kept.
    pub(in crate::postgres) fn same_row(&self, one: &str, other: &str) -> Result<String> {
        paired(one, self.keys(), other, self.keys())
    }

    /// The same, and where rows name their items that the two may be of one item: its versions follow one
    /// another by themselves.
    fn same_line(&self, one: &str, other: &str) -> Result<String> {
        let row = self.same_row(one, other)?;
        let version = &self.version;
        if !self.spec.names_items {
            return Ok(row);
        }
        let item = may_be_one_item(&format!("{one}.{version}"), &format!("{other}.{version}"));
        Ok(format!("{row} and {item}"))
    }

    /// That a version may be of the same item as another one, behind another condition.
    fn of_one(&self, alias: &str, other: &str) -> String {
        if !self.spec.names_items {
            return String::new();
        }
        format!(" and {}", may_be_one_item(&format!("{alias}.{}", self.version), other))
    }

    /// The item of a version. One that names none is of the item that follows.
    fn item(&self, alias: &str) -> Result<String> {
        let Self { table, version, .. } = self;
        let (own, next) =
            (item_of(&format!("{alias}.{version}")), item_of(&format!("x.{version}")));
        Ok(format!(
            "case when {own} <> 0 then {own} else coalesce((select {next} from {table} x \
             where {row} and x.{version} > {alias}.{version} and {next} <> 0 \
             order by x.{version} limit 1), 0) end",
            row = self.same_row("x", alias)?,
        ))
    }

    /// What the versions of one line have in common.
    fn line(&self, alias: &str) -> Result<String> {
        let keys = listed(alias, self.keys())?;
        Ok(match self.spec.names_items {
            true => format!("{keys}, {}", self.item(alias)?),
            false => keys,
        })
    }

    /// The line of a row of the batch: it names its item, or none does.
    fn new_line(&self, alias: &str) -> Result<String> {
        let keys = listed(alias, self.keys())?;
        let item = item_of(&format!("{alias}.{}", self.version));
        Ok(if self.spec.names_items { format!("{keys}, {item}") } else { keys })
    }

    /// That a row of the table is not marked as deleted, behind another condition.
    pub(in crate::postgres) fn live(&self, alias: &str) -> Result<String> {
        let mark = mark(self.of)?;
        Ok(mark.map_or(String::new(), |mark| format!(" and {alias}.{mark} is null")))
    }

    /// That two rows show something else.
    pub(in crate::postgres) fn differs(&self, one: &str, other: &str) -> Result<String> {
        let columns = self.shown().iter().zip(names(self.shown())?);
        let each = columns.map(|(column, name)| {
            distinct(column, &format!("{one}.{name}"), &format!("{other}.{name}"))
        });
        let each: Vec<String> = each.collect();
        Ok(if each.is_empty() { "false".to_owned() } else { format!("({})", each.join(" or ")) })
    }

    /// The rows of a batch: one array per column except the version and the last, then the versions.
    fn new_rows(&self) -> Result<String> {
        let last = self.spec.columns.len() - 1;
        let own = self.spec.columns.iter().take(last).enumerate();
        let own = own.filter(|(at, _)| *at != self.of.key_columns);
        let columns: Vec<_> = own.map(|(_, column)| column.clone()).collect();
        let named = unnested(&columns, 1)?.into_iter().zip(names(&columns)?);
        let named: Vec<_> = named.map(|(array, name)| format!("{array} as {name}")).collect();
        Ok(format!(
            "with dynaurora_new as (select {}, {} as {})",
            named.join(", "),
            unnested_version(columns.len() + 1),
            self.version,
        ))
    }

    /// Adds versions.
    ///
    /// An end is added only after a row that it ends. A key is skipped if its table has a newer row than the
    /// batch. A row of a load is a version only if the table took it, or if the batch also ends it, and if it
    /// shows something else than the version before.
    ///
    /// Parameters: those of `new_rows`.
    pub(in crate::postgres) fn add(&self, adding: Adding) -> Result<String> {
        let Self { table, of_table, version, op, valid_from, ends, .. } = self;
        let line = self.new_line("b")?;
        let newest = self.of_one("t", "n.dynaurora_newest");
        let own = names(&self.spec.columns)?;
        let select: Vec<_> = (own.iter().take(own.len() - 1))
            .map(|name| {
                let name = if name == valid_from { "dynaurora_at" } else { name };
                format!("n.{name}")
            })
            .collect();
        Ok(format!(
            "{new}, dynaurora_seen as (select b.*, coalesce(b.{valid_from}, now()) as dynaurora_at, \
             max(b.{version}) over (partition by {line}) as dynaurora_newest, \
             lead(b.{op}) over dynaurora_own as dynaurora_after, \
             bool_or(b.{op} in ({ends})) over (dynaurora_own rows between unbounded preceding \
             and 1 preceding) as dynaurora_ended, \
             coalesce(lag(b.{op}) over dynaurora_own, \
             (select h.{op} from {table} h where {before} and h.{version} < b.{version} \
             order by h.{version} desc limit 1)) as dynaurora_before from dynaurora_new b \
             window dynaurora_own as (partition by {line} order by b.{version})) \
             insert into {table} as o ({}) select {}, \
             case when n.{op} in ({ends}) then n.dynaurora_at end \
             from dynaurora_seen n \
             where (n.{op} not in ({ends}) or n.dynaurora_before not in ({ends})) \
             and not exists (select from {of_table} t \
             where {same} and t.{version} > n.dynaurora_newest{newest}) {}{}",
            own.join(", "),
            select.join(", "),
            if adding == Adding::Repair { String::new() } else { self.taken()? },
            self.on_conflict(adding)?,
            new = self.new_rows()?,
            before = self.same_line("h", "b")?,
            same = self.same_row("t", "n")?,
        ))
    }

    /// Of the rows of a load, those that are a version.
    fn taken(&self) -> Result<String> {
        let Self { table, of_table, version, op, ends, .. } = self;
        Ok(format!(
            "and (n.{op} in ({ends}) or not {load} or ((n.dynaurora_after in ({ends}) \
             or exists (select from {of_table} t where {taken} and t.{version} = n.{version})) \
             and (n.dynaurora_ended or not exists (select from (select h.* from {table} h \
             where {before} and h.{version} < n.{version} order by h.{version} desc limit 1) p \
             where p.{op} not in ({ends}) and not {differs})))) ",
            load = is_of_load(&format!("n.{version}")),
            taken = self.same_row("t", "n")?,
            before = self.same_line("h", "n")?,
            differs = self.differs("p", "n")?,
        ))
    }

    /// A record that comes again may show more by a newer mapping.
    fn on_conflict(&self, adding: Adding) -> Result<String> {
        let shown = names(self.shown())?;
        if adding != Adding::Again || shown.is_empty() {
            return Ok("on conflict do nothing".to_owned());
        }
        let set: Vec<_> = shown.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        let target = [names(self.keys())?, vec![self.version.clone()]].concat().join(", ");
        let differs = self.differs("o", "excluded")?;
        Ok(format!("on conflict ({target}) do update set {} where {differs}", set.join(", ")))
    }

    /// The same record under a newer generation is the same record: its version and all that followed it in
    /// older generations go along, before the records themselves come again. What the load said of the time
    /// before is known better then.
    ///
    /// Parameters: those of `new_rows`.
    pub(in crate::postgres) fn again(&self) -> Result<String> {
        let Self { table, version, op, .. } = self;
        let new_generation = generation_of("a.dynaurora_to");
        let moved =
            format!("{new_generation} * {factor} + mod(h.{version}, {factor})", factor = factor(),);
        Ok(format!(
            "{new}, dynaurora_again as (select distinct on ({line}) {keys}, \
             b.{version} as dynaurora_to, h.{version} as dynaurora_was \
             from dynaurora_new b cross join lateral generate_series(1, {generation}::int - 1) k \
             join {table} h on {twin} and h.{version} = b.{version} - k * {factor} \
             and h.{op} = b.{op} and not {differs} \
             where not {load} order by {line}, b.{version}, h.{version} desc), \
             dynaurora_gone as (delete from {table} h using dynaurora_again a where {same} \
             and h.{version} >= {new_generation} * {factor} and h.{version} < a.dynaurora_to \
             and {of_load}) \
             update {table} h set {version} = {moved} from dynaurora_again a where {same} \
             and h.{version} >= a.dynaurora_was and h.{version} < {new_generation} * {factor} \
             and not {of_load} and not exists (select from {table} o \
             where {other} and o.{version} in (select mod(h.{version}, {factor}) + k * {factor} \
             from generate_series({own_generation}::int + 1, {new_generation}::int) k))",
            new = self.new_rows()?,
            keys = listed("b", self.keys())?,
            line = self.new_line("b")?,
            generation = generation_of(&format!("b.{version}")),
            own_generation = generation_of(&format!("h.{version}")),
            factor = factor(),
            twin = self.same_row("h", "b")?,
            differs = self.differs("h", "b")?,
            load = is_of_load(&format!("b.{version}")),
            of_load = is_of_load(&format!("h.{version}")),
            same = format!("{}{}", self.same_row("h", "a")?, self.of_one("h", "a.dynaurora_to")),
            other = self.same_row("o", "h")?,
        ))
    }

    /// Sets the times of some rows' versions, from the one before the first of them to the newest: no version
    /// begins before the one before it, and each ends where the next begins.
    ///
    /// Times of two shards may disagree, and a load or a repair only knows that a row was so by the time when
    /// it was read: a version of theirs begins with the record that follows it, where that is earlier.
    ///
    /// Parameters: one array per key column without the version, then the versions.
    pub(in crate::postgres) fn settle(&self) -> Result<String> {
        let Self { table, version, op, valid_from, valid_to, ends, .. } = self;
        let named = unnested(self.keys(), 1)?.into_iter().zip(names(self.keys())?);
        let named: Vec<_> = named.map(|(array, name)| format!("{array} as {name}")).collect();
        let key_names = listed("b", self.keys())?;
        let soft = self.is_read("h");
        let (told_line, tell_line) = match self.spec.names_items {
            true => {
                let item = self.item("h")?;
                (
                    format!("{}, h.dynaurora_item", listed("h", self.keys())?),
                    format!(", {item} as dynaurora_item"),
                )
            }
            false => (listed("h", self.keys())?, String::new()),
        };
        Ok(format!(
            "with dynaurora_new as (select {}, {} as {version}), \
             dynaurora_first as (select {key_names}, min(b.{version}) as {version} \
             from dynaurora_new b group by {new_line}), \
             dynaurora_from as (select b.*, coalesce((select h.{version} from {table} h \
             where {before} and h.{version} < b.{version} and not {soft} \
             order by h.{version} desc limit 1), 0) as dynaurora_since from dynaurora_first b), \
             dynaurora_told as (select h.*, case when {soft} \
             then least(h.{valid_from}, min(h.{valid_from}) filter (where not {soft}) \
             over (partition by {line} order by h.{version} \
             rows between 1 following and unbounded following)) \
             else h.{valid_from} end as dynaurora_at{tell_line} \
             from dynaurora_from f cross join lateral (select h.* from {table} h \
             where {chain} and h.{version} >= f.dynaurora_since offset 0) h), \
             dynaurora_begun as (select h.*, max(h.dynaurora_at) \
             over (partition by {told_line} order by h.{version}) as dynaurora_start \
             from dynaurora_told h), \
             dynaurora_due as (select h.*, case when h.{op} in ({ends}) then h.dynaurora_start \
             else lead(h.dynaurora_start) over (partition by {told_line} order by h.{version}) end \
             as dynaurora_stop from dynaurora_begun h) \
             update {table} h set {valid_from} = n.dynaurora_start, {valid_to} = n.dynaurora_stop \
             from dynaurora_due n where {same} and h.{version} = n.{version} \
             and (n.{valid_from} is distinct from n.dynaurora_start \
             or n.{valid_to} is distinct from n.dynaurora_stop)",
            named.join(", "),
            unnested_version(named.len() + 1),
            before = self.same_line("h", "b")?,
            chain = self.same_line("h", "f")?,
            same = self.same_row("h", "n")?,
            new_line = self.new_line("b")?,
            line = self.line("h")?,
        ))
    }

    /// Whether a version is of no record: a load or a repair read it, and nobody knows since when it was so.
    fn is_read(&self, alias: &str) -> String {
        let (op, version) = (&self.op, &self.version);
        format!("({alias}.{op} = 'scan' or {})", is_of_load(&format!("{alias}.{version}")))
    }
}

/// What a generation counts in a version.
fn factor() -> String {
    format!("1e{}", crate::model::SequenceNumber::DIGITS_MAX)
}

use proptest::prelude::*;

use super::definition::*;
use super::spec::ColumnType;
use super::*;
use crate::model::{AttributeValue, Cells, ChangeOp, SequenceNumber};

pub(super) fn word(text: &str) -> Spanned<String> {
    Spanned::new(text.to_owned(), Span::default())
}

/// A column as `name = from` or `name = from: type`.
pub(super) fn column(text: &str) -> ColumnDefinition {
    let (name, from) = text.split_once(" = ").unwrap();
    let (from, column_type) = from.split_once(": ").map_or((from, None), |(f, t)| (f, Some(t)));
    let column_type = column_type.map(word);
    ColumnDefinition { column_type, ..ColumnDefinition::plain(word(name), word(from)) }
}

fn rows(table: &str, columns: &[&str]) -> RowsDefinition {
    let columns = columns.iter().map(|text| column(text)).collect();
    RowsDefinition { table: word(table), columns, ..RowsDefinition::default() }
}

fn entity(name: &str, key: &[(&str, &str)], columns: &[&str]) -> EntityDefinition {
    let key = key.iter().map(|(attribute, template)| KeyDefinition {
        attribute: word(attribute),
        template: word(template),
    });
    EntityDefinition {
        name: word(name),
        key: key.collect(),
        rows: rows(&format!("{name}s"), columns),
        ..EntityDefinition::default()
    }
}

fn compile(entities: Vec<EntityDefinition>) -> Result<Mapper, Vec<Problem>> {
    let name = word("source");
    Mapper::compile(&SourceDefinition { name, unmatched: Unmatched::DeadLetter, entities })
}

pub(super) fn item(json: &str) -> Item {
    serde_json::from_str(json).unwrap()
}

pub(super) fn change(op: ChangeOp, keys: &str, new: Option<&str>, old: Option<&str>) -> Change {
    Change {
        op,
        sequence: SequenceNumber::ZERO,
        keys: item(keys),
        new_image: new.map(item),
        old_image: old.map(item),
        changed_at: None,
        expired: false,
        bytes: 0,
    }
}

pub(super) fn put(json: &str, keys: &str) -> Change {
    change(ChangeOp::Modify, keys, Some(json), None)
}

pub(super) fn map(mapper: &Mapper, change: &Change) -> (Outcome, Vec<String>) {
    let mut rows = Vec::new();
    let outcome = mapper.map(change, &mut rows);
    let shown = rows.iter().map(|row| {
        let table = |index: TableIndex| mapper.tables()[usize::from(index.0)].name.name.clone();
        let cells = |cells: &Cells| {
            cells.iter().map(|cell| cell.unwrap_or("NULL")).collect::<Vec<_>>().join(",")
        };
        let mut text = format!("{:?} {}({})", row.action, table(row.table), cells(&row.cells));
        for (index, own) in &row.children {
            text.push_str(&format!(" {}({})", table(*index), cells(own)));
        }
        text
    });
    (outcome, shown.collect())
}

fn reason(outcome: &Outcome) -> (RejectReason, Option<&str>) {
    match outcome {
        Outcome::Rejected(reject) => (reject.reason, reject.place.as_deref()),
        other => panic!("{other:?}"),
    }
}

pub(super) const ORDER_KEY: &str = r#"{"pk":{"S":"ORDER#7"}}"#;

pub(super) fn order(columns: &[&str]) -> EntityDefinition {
    entity("order", &[("pk", "ORDER#{id}")], columns)
}

#[test]
fn rule_1_a_key_template_routes_and_extracts() {
    let mapper = compile(vec![
        order(&["total = total: numeric", "id = {id}"]),
        entity("user", &[("pk", "USER#{id:int}")], &["id = {id}", "name = name"]),
    ])
    .unwrap();
    let (outcome, rows) = map(&mapper, &put(r#"{"total":{"N":"1.50"}}"#, ORDER_KEY));
    assert_eq!((outcome, rows), (Outcome::Mapped, vec!["Upsert orders(7,1.5)".to_owned()]));
    let keys = r#"{"pk":{"S":"USER#5"}}"#;
    let (_, rows) = map(&mapper, &put(r#"{"name":{"NULL":true}}"#, keys));
    assert_eq!(rows, ["Upsert users(5,NULL)"]);
    for keys in [r#"{"pk":{"S":"USER#x"}}"#, r#"{"sk":{"S":"USER#1"}}"#, r#"{"pk":{"N":"1"}}"#] {
        assert_eq!(map(&mapper, &put("{}", keys)).0, Outcome::Unmatched, "{keys}");
    }
}

#[test]
fn rule_3_a_removal_needs_the_keys_alone() {
    let mapper = compile(vec![order(&["id = {id}", "total = total: int"])]).unwrap();
    assert_eq!(mapper.needs_old_image(), None);
    let (outcome, rows) = map(&mapper, &change(ChangeOp::Remove, ORDER_KEY, None, None));
    assert_eq!((outcome, rows), (Outcome::Mapped, vec!["Delete orders(7)".to_owned()]));
}

#[test]
fn rule_3_a_primary_key_from_other_attributes_needs_the_old_image() {
    let mut definition = order(&["id = {id}", "city = city"]);
    definition.rows.primary_key = Some(vec![word("city"), word("id")]);
    let mapper = compile(vec![definition]).unwrap();
    let needs = mapper.needs_old_image().unwrap();
    assert_eq!((&*needs.entity, &*needs.column), ("order", "city"));
    let (oulu, rovaniemi) = (r#"{"city":{"S":"Oulu"}}"#, r#"{"city":{"S":"Rovaniemi"}}"#);
    let moved = change(ChangeOp::Modify, ORDER_KEY, Some(rovaniemi), Some(oulu));
    let (_, rows) = map(&mapper, &moved);
    assert_eq!(rows, ["Delete orders(Oulu,7)", "Upsert orders(Rovaniemi,7)"]);
    let same = change(ChangeOp::Modify, ORDER_KEY, Some(oulu), Some(oulu));
    assert_eq!(map(&mapper, &same).1, ["Upsert orders(Oulu,7)"]);
    let removed = change(ChangeOp::Remove, ORDER_KEY, None, Some(oulu));
    assert_eq!(map(&mapper, &removed).1, ["Delete orders(Oulu,7)"]);
    let (outcome, _) = map(&mapper, &change(ChangeOp::Remove, ORDER_KEY, None, None));
    assert_eq!(reason(&outcome), (RejectReason::Missing, Some("city")));
}

#[test]
fn rule_4_the_primary_key_may_be_said_otherwise() {
    let mut definition = entity("thing", &[], &["name = name", "id = id: bigint"]);
    definition.rows.primary_key = Some(vec![word("id")]);
    let mapper = compile(vec![definition]).unwrap();
    assert_eq!((mapper.key_attributes(), mapper.needs_old_image()), (vec!["id"], None));
    let keys = r#"{"id":{"N":"7.0"}}"#;
    assert_eq!(map(&mapper, &put(r#"{"name":{"S":"x"}}"#, keys)).1, ["Upsert things(7,x)"]);
    assert_eq!(map(&mapper, &change(ChangeOp::Remove, keys, None, None)).1, ["Delete things(7)"]);
}

#[test]
fn rule_6_a_record_is_applied_whole_or_not_at_all() {
    let mut definition = order(&["id = {id}", "total = total: int"]);
    definition.children.push(ChildDefinition {
        name: word("lines"),
        from: word("lines"),
        limit: Some(2),
        rows: rows("order_lines", &["at = @index", "qty = qty: int"]),
        children: Vec::new(),
    });
    let mapper = compile(vec![definition]).unwrap();
    let lines = |lines: &str| put(&format!(r#"{{"lines":{{"L":[{lines}]}}}}"#), ORDER_KEY);
    let line = |qty: &str| format!(r#"{{"M":{{"qty":{{"N":"{qty}"}}}}}}"#);
    let (_, rows) = map(&mapper, &lines(&format!("{},{}", line("1"), line("2"))));
    assert_eq!(rows, ["Upsert orders(7,NULL) order_lines(7,0,1) order_lines(7,1,2)"]);
    let three = [line("1"), line("1"), line("1")].join(",");
    for (bad, expected) in [
        (lines(&line("1.5")), (RejectReason::Range, Some("qty"))),
        (lines(&three), (RejectReason::Limit, Some("lines"))),
        (put(r#"{"lines":{"S":"x"}}"#, ORDER_KEY), (RejectReason::Type, Some("lines"))),
        (put(r#"{"lines":{"SS":["x"]}}"#, ORDER_KEY), (RejectReason::Type, Some("lines"))),
        (put(r#"{"total":{"S":"x"}}"#, ORDER_KEY), (RejectReason::Format, Some("total"))),
        (change(ChangeOp::Modify, ORDER_KEY, None, None), (RejectReason::Missing, None)),
    ] {
        let (outcome, rows) = map(&mapper, &bad);
        assert_eq!((reason(&outcome), rows), (expected, Vec::new()));
    }
}

#[test]
fn children_come_from_maps_and_sets_too() {
    let child = |name: &str, columns: &[&str]| ChildDefinition {
        name: word(name),
        from: word(name),
        limit: None,
        rows: rows(name, columns),
        children: Vec::new(),
    };
    let mut definition = order(&["id = {id}"]);
    definition.children = vec![
        child("tags", &["tag = @value"]),
        child("prices", &["country = @key", "price = @value: numeric", "nr = @index"]),
        child("amounts", &["amount = @value: int"]),
    ];
    let mapper = compile(vec![definition]).unwrap();
    let tables: Vec<_> = mapper.tables().iter().map(|table| table.key_columns).collect();
    assert_eq!(tables, [1, 2, 2, 2]);
    let json = r#"{"tags":{"SS":["b","a"]},"amounts":{"NS":["10","9"]},
        "prices":{"M":{"se":{"N":"2"},"fi":{"N":"1.0"}}}}"#;
    let expected = "Upsert orders(7) tags(7,a) tags(7,b) prices(7,fi,1,0) prices(7,se,2,1) \
                    amounts(7,9) amounts(7,10)";
    assert_eq!(map(&mapper, &put(json, ORDER_KEY)).1, [expected]);
    let twice = put(r#"{"tags":{"L":[{"S":"a"},{"S":"a"}]}}"#, ORDER_KEY);
    assert_eq!(reason(&map(&mapper, &twice).0), (RejectReason::Format, Some("tags")));
}

/// `toys` of an order, with inner lists of maps, a map of lists, and a set.
fn nested() -> EntityDefinition {
    let child = |name: &str, from: &str, limit, columns: &[&str]| ChildDefinition {
        name: word(name),
        from: word(from),
        limit,
        rows: rows(name, columns),
        children: Vec::new(),
    };
    let mut toys = child("toys", "toys", Some(3), &["at = @index", "sku = sku"]);
    let mut parts = child("parts", "box.parts", Some(4), &["nr = @index", "name = name"]);
    parts.children = vec![child("tags", "tags", None, &["tag = @value"])];
    toys.children = vec![parts];
    toys.rows.rest = Some(word("rest"));
    let mut lists = child("lists", "lists", None, &["list = @key"]);
    lists.children = vec![child("entries", "@value", None, &["nr = @index", "entry = @value"])];
    let mut definition = order(&["id = {id}"]);
    definition.rows.rest = Some(word("extra"));
    definition.children = vec![toys, lists];
    definition
}

#[test]
fn rule_9_children_of_children_have_the_keys_of_all_above_them() {
    let mapper = compile(vec![nested()]).unwrap();
    let shape: Vec<_> = mapper
        .tables()
        .iter()
        .map(|table| {
            let columns: Vec<_> = table.columns.iter().map(|own| own.name.as_str()).collect();
            (columns.join(","), table.key_columns, table.parent.map(|own| own.key_columns))
        })
        .collect();
    let said = |columns: &str, keys, parent| (columns.to_owned(), keys, parent);
    assert_eq!(
        shape,
        [
            said("id,extra", 1, None),
            said("id,at,sku,rest", 2, Some(1)),
            said("id,at,nr,name", 3, Some(1)),
            said("id,at,nr,tag", 4, Some(1)),
            said("id,list", 2, Some(1)),
            said("id,list,nr,entry", 3, Some(1)),
        ]
    );
    let parents = mapper.tables().iter().filter_map(|table| table.parent);
    assert!(parents.into_iter().all(|parent| parent.table == TableIndex(0)), "of the entity's row");
    let json = r#"{"toys":{"L":[
            {"M":{"sku":{"S":"train"},"box":{"M":{"lid":{"BOOL":true},"parts":{"L":[
                {"M":{"name":{"S":"wheel"},"tags":{"SS":["b","a"]}}},{"M":{}}]}}}}},
            {"M":{"sku":{"S":"kite"},"box":{"NULL":true}}}]},
        "lists":{"M":{"z":{"L":[]},"a":{"L":[{"S":"x"},{"S":"y"}]}}}}"#;
    let expected = "Upsert orders(7,{}) toys(7,0,train,{\"box\":{\"lid\":true}}) \
                    parts(7,0,0,wheel) \
                    tags(7,0,0,a) tags(7,0,0,b) parts(7,0,1,NULL) toys(7,1,kite,{\"box\":null}) \
                    lists(7,a) entries(7,a,0,x) entries(7,a,1,y) lists(7,z)";
    assert_eq!(map(&mapper, &put(json, ORDER_KEY)), (Outcome::Mapped, vec![expected.to_owned()]));
}

#[test]
fn rule_9_limits_and_rejects_hold_on_every_level() {
    let mapper = compile(vec![nested()]).unwrap();
    let toys = |toys: &str| put(&format!(r#"{{"toys":{{"L":[{toys}]}}}}"#), ORDER_KEY);
    let toy = |parts: usize| {
        let parts = vec![r#"{"M":{}}"#; parts].join(",");
        format!(r#"{{"M":{{"box":{{"M":{{"parts":{{"L":[{parts}]}}}}}}}}}}"#)
    };
    let (outcome, rows) = map(&mapper, &toys(&[toy(2), toy(2), toy(0)].join(",")));
    assert_eq!((outcome, rows.len()), (Outcome::Mapped, 1));
    let twice = r#"{"M":{"box":{"M":{"parts":{"L":[{"M":{"tags":
        {"L":[{"S":"a"},{"S":"a"}]}}}]}}}}}"#;
    let flat = r#"{"M":{"box":{"M":{"parts":{"L":[{"S":"wheel"}]}}}}}"#;
    for (bad, expected) in [
        (vec![toy(0); 4].join(","), (RejectReason::Limit, Some("toys"))),
        // The limit applies to all rows of one item in the table.
        ([toy(2), toy(3)].join(","), (RejectReason::Limit, Some("toys[].box.parts"))),
        (twice.to_owned(), (RejectReason::Format, Some("toys[].box.parts[].tags"))),
        (flat.to_owned(), (RejectReason::Type, Some("toys[].box.parts"))),
    ] {
        let (outcome, rows) = map(&mapper, &toys(&bad));
        assert_eq!((reason(&outcome), rows), (expected, Vec::new()));
    }
}

#[test]
fn rule_2_leaving_the_filter_deletes_the_row() {
    let mut definition = order(&["id = {id}", "total = total: int"]);
    definition.filter = Some(word("state = 'open'"));
    let mapper = compile(vec![definition]).unwrap();
    let open = put(r#"{"state":{"S":"open"}}"#, ORDER_KEY);
    assert_eq!(map(&mapper, &open).1, ["Upsert orders(7,NULL)"]);
    // An item that does not pass the filter is not converted.
    let closed = put(r#"{"state":{"S":"closed"},"total":{"S":"no number"}}"#, ORDER_KEY);
    let expected = (Outcome::Filtered, vec!["Delete orders(7)".to_owned()]);
    assert_eq!(map(&mapper, &closed), expected);
}

#[test]
fn a_filter_may_keep_out_what_lacks_the_primary_key() {
    let mut definition = order(&["id = {id}", "email = email"]);
    definition.rows.primary_key = Some(vec![word("email")]);
    definition.filter = Some(word("attribute_exists(email)"));
    let mapper = compile(vec![definition]).unwrap();
    assert_eq!(map(&mapper, &put("{}", ORDER_KEY)), (Outcome::Filtered, Vec::new()));
    let left = change(ChangeOp::Modify, ORDER_KEY, Some("{}"), Some(r#"{"email":{"S":"a@b"}}"#));
    let expected = (Outcome::Filtered, vec!["Delete orders(a@b)".to_owned()]);
    assert_eq!(map(&mapper, &left), expected);
}

#[test]
fn rule_2_changing_entity_under_one_key_deletes_the_row() {
    let filtered = |name: &str, filter: &str| {
        let mut definition = entity(name, &[("pk", "ORDER#{id}")], &["id = {id}"]);
        definition.filter = Some(word(filter));
        definition
    };
    let mapper =
        compile(vec![filtered("cat", "kind = 'cat'"), filtered("dog", "kind <> 'cat'")]).unwrap();
    let cat = put(r#"{"kind":{"S":"cat"}}"#, ORDER_KEY);
    let upsert_cat = vec!["Upsert cats(7)".to_owned(), "Delete dogs(7)".to_owned()];
    assert_eq!(map(&mapper, &cat), (Outcome::Mapped, upsert_cat));
    let (_, rows) = map(&mapper, &change(ChangeOp::Remove, ORDER_KEY, None, None));
    assert_eq!(rows, ["Delete cats(7)", "Delete dogs(7)"]);
    let problems = compile(vec![filtered("cat", "kind = 'cat'"), order(&["id = {id}"])]);
    assert!(problems.unwrap_err()[0].message.contains("overlap"));
}

#[test]
fn rule_1_a_key_that_matches_two_entities_after_all_is_set_aside() {
    let of = |name: &str, key| entity(name, &[("pk", key)], &["id = {id}", "x = {x}"]);
    let mapper = compile(vec![of("item", "{id}#ITEM#{x}"), of("note", "{id}#NOTE#{x}")]).unwrap();
    let odd = put("{}", r#"{"pk":{"S":"1#ITEM#2#NOTE#3"}}"#);
    let (outcome, rows) = map(&mapper, &odd);
    assert_eq!((reason(&outcome).0, rows.len()), (RejectReason::Unmatched, 0));
}

#[test]
fn an_expiry_can_keep_the_row() {
    let mut definition = order(&["id = {id}"]);
    definition.on_ttl = Some(OnDelete::Keep);
    let mapper = compile(vec![definition]).unwrap();
    let mut removal = change(ChangeOp::Remove, ORDER_KEY, None, None);
    assert_eq!(map(&mapper, &removal).1, ["Delete orders(7)"]);
    removal.expired = true;
    assert_eq!(map(&mapper, &removal), (Outcome::Filtered, Vec::new()));
}

#[test]
fn rule_6_what_does_not_fit_follows_on_error() {
    let with = |on_error, default: Option<&str>| {
        let mut total = column("total = total: int");
        total.on_error = Spanned::new(on_error, Span::default());
        total.default =
            default.map(|text| Spanned::new(AttributeValue::N(text.to_owned()), Span::default()));
        let mut definition = order(&["id = {id}"]);
        definition.rows.columns.push(total);
        definition.rows.rest = Some(word("extra"));
        compile(vec![definition]).unwrap()
    };
    let bad = put(r#"{"total":{"S":"x"},"pk":{"S":"ORDER#7"},"a":{"N":"1"}}"#, ORDER_KEY);
    let rows = |mapper: Mapper| map(&mapper, &bad).1;
    assert_eq!(rows(with(OnError::Null, None)), [r#"Upsert orders(7,NULL,{"a":1})"#]);
    assert_eq!(rows(with(OnError::Default, Some("3.0"))), [r#"Upsert orders(7,3,{"a":1})"#]);
    let rest = r#"Upsert orders(7,NULL,{"a":1,"total":"x"})"#;
    assert_eq!(rows(with(OnError::Rest, None)), [rest]);
    assert!(rows(with(OnError::DeadLetter, None)).is_empty());
}

#[test]
fn rule_5_absent_null_and_empty_stay_apart_where_the_type_can() {
    let mut required = column("r = r");
    required.required = true;
    let mut defaulted = column("d = d");
    defaulted.default = Some(Spanned::new(AttributeValue::S("-".into()), Span::default()));
    let mut definition = order(&["id = {id}", "t = t", "j = j: jsonb"]);
    definition.rows.columns.extend([required, defaulted]);
    let mapper = compile(vec![definition]).unwrap();
    let row = |json: &str| map(&mapper, &put(json, ORDER_KEY)).1;
    let r = r#""r":{"S":""}"#;
    assert_eq!(row(&format!("{{{r}}}")), ["Upsert orders(7,NULL,NULL,,-)"]);
    let nulls = format!(r#"{{{r},"t":{{"NULL":true}},"j":{{"NULL":true}},"d":{{"NULL":true}}}}"#);
    assert_eq!(row(&nulls), ["Upsert orders(7,NULL,null,,-)"]);
    let empty = format!(r#"{{{r},"t":{{"S":""}},"j":{{"M":{{}}}},"d":{{"S":""}}}}"#);
    assert_eq!(row(&empty), ["Upsert orders(7,,{},,)"]);
    let (outcome, _) = map(&mapper, &put(r#"{"r":{"NULL":true}}"#, ORDER_KEY));
    assert_eq!(reason(&outcome), (RejectReason::Missing, Some("r")));
}

#[test]
fn rule_4_a_constant_in_the_primary_key_is_in_every_row() {
    let mut region = column("region = ");
    region.constant = Some(Spanned::new(AttributeValue::S("eu".into()), Span::default()));
    let mut definition = order(&["id = {id}", "total = total: int"]);
    definition.rows.columns.push(region);
    definition.rows.primary_key = Some(vec![word("region"), word("id")]);
    let mapper = compile(vec![definition.clone()]).unwrap();
    let constant = spec::Constant { column: 0, value: "eu".to_owned() };
    assert_eq!(mapper.tables()[0].constants, [constant]);
    assert_eq!(mapper.needs_old_image(), None);
    assert_eq!(map(&mapper, &put("{}", ORDER_KEY)).1, ["Upsert orders(eu,7,NULL)"]);
    let removed = change(ChangeOp::Remove, ORDER_KEY, None, None);
    assert_eq!(map(&mapper, &removed).1, ["Delete orders(eu,7)"]);
    let schema = [("pk".to_owned(), crate::model::KeyType::S)];
    let item_of = |region: &str| {
        let key: Cells = [Some(region), Some("7")].into_iter().collect();
        mapper.item_key(TableIndex(0), &key, &schema)
    };
    assert_eq!((item_of("eu"), item_of("us")), (Some(item(ORDER_KEY)), None));
    definition.rows.primary_key = Some(vec![word("region")]);
    let problems = compile(vec![definition]).unwrap_err();
    assert!(problems[0].message.contains("all items would hit one row"));
}

#[test]
fn rule_5_a_type_is_named_or_that_of_the_existing_table() {
    let definition = SourceDefinition {
        name: word("source"),
        unmatched: Unmatched::DeadLetter,
        entities: vec![order(&["id = {id}", "total = total", "note = note: text"])],
    };
    let own = |column: &str| ("orders".to_owned(), column.to_owned());
    let types =
        [(own("total"), ColumnType::Numeric(Some((6, 2)))), (own("note"), ColumnType::Jsonb)];
    let known = Known { types: types.into(), ..Known::default() };
    let mapper = Mapper::compile_onto(&definition, &known).unwrap();
    let types: Vec<_> =
        mapper.tables()[0].columns.iter().map(|column| column.column_type.to_string()).collect();
    assert_eq!(types, ["text", "numeric(6,2)", "text"]);
}

proptest! {
    #[test]
    fn rule_4_different_keys_hit_different_rows(
        left in "[0-9a-c-]{1,6}", right in "[0-9a-c-]{1,6}", kind in 0_usize..4,
    ) {
        let (capture, column) =
            [("id", "text"), ("id", "bigint"), ("id:int", "numeric"), ("id:int", "text")][kind];
        let definition = entity(
            "order",
            &[("pk", &format!("ORDER#{{{capture}}}"))],
            &[&format!("id = {{id}}: {column}")],
        );
        let mapper = compile(vec![definition]).unwrap();
        let row = |id: &str| {
            let keys = format!(r#"{{"pk":{{"S":"ORDER#{id}"}}}}"#);
            map(&mapper, &put("{}", &keys)).1
        };
        let (first, second) = (row(&left), row(&right));
        prop_assert!(left == right || first.is_empty() || first != second);
    }
}

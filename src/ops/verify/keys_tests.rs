//! Turns rows' keys back into items' keys, with realistic mappings.

use crate::config::Config;
use crate::mapping::Mapper;
use crate::model::{Cells, Item, KeyType, TableIndex};

fn mapper(entity: &str) -> Mapper {
    let text = format!(
        "version = 1\n[target]\nurl = \"postgres://a@localhost/b\"\ntls = \"disable\"\n\
             [source.s]\ntable = \"T\"\n{entity}"
    );
    let config = Config::parse(&text, "t", &[], std::iter::empty())
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let mut sources = config.sources;
    std::sync::Arc::into_inner(sources.remove(0).mapper).unwrap()
}

fn schema(types: &[(&str, KeyType)]) -> Vec<(String, KeyType)> {
    types.iter().map(|(name, key_type)| ((*name).to_owned(), *key_type)).collect()
}

fn cells(values: &[&str]) -> Cells {
    values.iter().copied().map(Some).collect()
}

fn text(item: Option<Item>) -> Option<String> {
    item.map(|item| serde_json::to_string(&item).unwrap())
}

const LETTERS: &str = r#"
[source.s.entity.letter]
key = { pk = "CHILD#{child}", sk = "LETTER#{year:int(4)}#{letter}" }
table = "letters"
on_ttl = "keep"
[source.s.entity.letter.columns]
child = "{child}"
year = { from = "{year}", type = "int" }
letter = "{letter}"
body = "body"
"#;

#[test]
fn a_row_s_key_renders_the_item_s_key_with_its_padding() {
    let mapper = mapper(LETTERS);
    let schema = schema(&[("pk", KeyType::S), ("sk", KeyType::S)]);
    assert!(mapper.names_items(TableIndex(0), &schema));
    assert!(mapper.keeps_rows(TableIndex(0)));
    let key = mapper.item_key(TableIndex(0), &cells(&["a#b", "926", "x#1"]), &schema);
    let wanted = r##"{"pk":{"S":"CHILD#a#b"},"sk":{"S":"LETTER#0926#x#1"}}"##;
    assert_eq!(text(key).as_deref(), Some(wanted));
    // No item has an empty capture or a year of five digits.
    assert_eq!(mapper.item_key(TableIndex(0), &cells(&["", "926", "x"]), &schema), None);
    assert_eq!(mapper.item_key(TableIndex(0), &cells(&["a", "92600", "x"]), &schema), None);
}

#[test]
fn whole_attributes_keep_their_type() {
    let mapper = mapper(
        "primary_key = [\"id\", \"at\"]\n[source.s.columns]\n\
             id = { from = \"id\", type = \"bytea\" }\n\
         at = { from = \"at\", type = \"numeric\" }\n",
    );
    let schema = schema(&[("id", KeyType::B), ("at", KeyType::N)]);
    let key = mapper.item_key(TableIndex(0), &cells(&["\\x00ff", "1.5"]), &schema);
    assert_eq!(text(key).as_deref(), Some(r#"{"at":{"N":"1.5"},"id":{"B":"AP8="}}"#));
    let odd = mapper.item_key(TableIndex(0), &cells(&["\\x00f", "1.5"]), &schema);
    assert_eq!(odd, None);
}

#[test]
fn a_key_that_is_not_all_there_gives_no_answer() {
    let by_mail = mapper(
        "[source.s.entity.child]\nkey = { pk = \"CHILD#{_}\" }\ntable = \"children\"\n\
             primary_key = [\"mail\"]\n[source.s.entity.child.columns]\nmail = \"mail\"\n",
    );
    let own = schema(&[("pk", KeyType::S)]);
    assert!(!by_mail.names_items(TableIndex(0), &own));
    assert_eq!(by_mail.item_key(TableIndex(0), &cells(&["a@b"]), &own), None);
    // The template leaves one of the table's two key attributes open.
    let half = mapper(
        "[source.s.entity.child]\nkey = { pk = \"CHILD#{child}\" }\ntable = \"children\"\n\
             [source.s.entity.child.columns]\nchild = \"{child}\"\n",
    );
    let both = schema(&[("pk", KeyType::S), ("sk", KeyType::S)]);
    assert!(half.names_items(TableIndex(0), &own));
    assert!(!half.names_items(TableIndex(0), &both));
}

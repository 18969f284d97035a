//! The names of column types: read as Postgres users write them, printed as Postgres prints them.

use std::fmt;

use super::spec::{ColumnType, TableName};

/// The names that a mapping can use, for suggestions.
pub const TYPE_NAMES: [&str; 24] = [
    "text",
    "varchar",
    "smallint",
    "int2",
    "integer",
    "int",
    "int4",
    "bigint",
    "int8",
    "numeric",
    "decimal",
    "real",
    "float4",
    "double precision",
    "float8",
    "boolean",
    "bool",
    "date",
    "time",
    "timestamptz",
    "uuid",
    "bytea",
    "jsonb",
    "inet",
];

/// Type names of other systems, and their meaning.
const SYNONYMS: [(&str, &str); 12] = [
    ("string", "text"),
    ("str", "text"),
    ("s", "text"),
    ("number", "numeric"),
    ("n", "numeric"),
    ("float", "double precision"),
    ("long", "bigint"),
    ("datetime", "timestamptz"),
    ("binary", "bytea"),
    ("blob", "bytea"),
    ("object", "jsonb"),
    ("map", "jsonb"),
];

impl ColumnType {
    /// Reads a type's name: `int`, `numeric(6,2)`, `varchar(40)`, `text[]`, or `schema.type` for a
    /// type that exists in the database.
    ///
    /// # Errors
    /// What is wrong, and if possible the intended name.
    pub fn parse(text: &str) -> Result<Self, TypeError> {
        let text = text.trim();
        let Some(element) = text.strip_suffix("[]").map(str::trim) else {
            return Self::element(text);
        };
        if element.ends_with("[]") {
            return Err(TypeError::new("arrays of arrays are not supported; use jsonb"));
        }
        let element = Self::element(element).map_err(|error| TypeError {
            meant: error.meant.map(|meant| format!("{meant}[]")),
            ..error
        })?;
        Ok(Self::Array(Box::new(element)))
    }

    /// Reads the name of a non-array type.
    fn element(text: &str) -> Result<Self, TypeError> {
        let lower = text.to_ascii_lowercase();
        let (name, rest) = match lower.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest)),
            None => (lower.as_str(), None),
        };
        let sizes = match rest {
            Some(rest) => sizes(rest)?,
            None => Vec::new(),
        };
        match (name, sizes.as_slice()) {
            ("varchar" | "character varying", [length @ 1..=10_485_760]) => {
                Ok(Self::Varchar(*length))
            }
            ("varchar" | "character varying", _) => {
                Err(TypeError::new("varchar needs its length, as varchar(40); or use text"))
            }
            ("numeric" | "decimal", []) => Ok(Self::Numeric(None)),
            ("numeric" | "decimal", [precision]) => numeric(*precision, 0),
            ("numeric" | "decimal", [precision, scale]) => numeric(*precision, *scale),
            (_, []) => Self::simple(name, text),
            _ => match Self::simple(name, name) {
                Ok(_) => Err(TypeError::new(format!("{name} does not take these sizes"))),
                Err(error) => Err(error.sized(rest)),
            },
        }
    }

    fn simple(name: &str, written: &str) -> Result<Self, TypeError> {
        Ok(match name {
            "text" => Self::Text,
            "smallint" | "int2" => Self::SmallInt,
            "integer" | "int" | "int4" => Self::Integer,
            "bigint" | "int8" => Self::BigInt,
            "real" | "float4" => Self::Real,
            "double precision" | "float8" | "double" => Self::Double,
            "boolean" | "bool" => Self::Boolean,
            "date" => Self::Date,
            "time" | "time without time zone" => Self::Time,
            "timestamptz" | "timestamp with time zone" => Self::Timestamptz,
            "uuid" => Self::Uuid,
            "bytea" => Self::Bytea,
            "jsonb" => Self::Jsonb,
            "inet" => Self::Inet,
            "json" => return Err(TypeError::meant("json keeps no canonical form", "jsonb")),
            "timestamp" | "timestamp without time zone" => {
                return Err(TypeError::meant(
                    "a timestamp without a zone is ambiguous",
                    "timestamptz",
                ));
            }
            "char" | "bpchar" => return Err(TypeError::meant("char pads its values", "text")),
            _ => match written.split_once('.') {
                Some((schema, name)) if !schema.is_empty() && !name.is_empty() => {
                    Self::Named(TableName { schema: Some(schema.into()), name: name.into() })
                }
                _ => return Err(unknown(name)),
            },
        })
    }
}

fn unknown(name: &str) -> TypeError {
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == name).map(|(_, own)| *own);
    let closest = TYPE_NAMES
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), *known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known);
    TypeError {
        message: format!("there is no column type `{name}`"),
        meant: synonym.or(closest).map(str::to_owned),
        unknown: true,
    }
}

fn numeric(precision: u32, scale: u32) -> Result<ColumnType, TypeError> {
    let sizes = u16::try_from(precision).ok().zip(u16::try_from(scale).ok());
    match sizes {
        Some((precision @ 1..=1000, scale)) if scale <= precision => {
            Ok(ColumnType::Numeric(Some((precision, scale))))
        }
        _ => Err(TypeError::new("numeric(p, s) needs 1 <= p <= 1000 and s <= p")),
    }
}

fn sizes(rest: &str) -> Result<Vec<u32>, TypeError> {
    let wrong = || TypeError::new("sizes are written as in numeric(6,2)");
    let inner = rest.trim_end().strip_suffix(')').ok_or_else(wrong)?;
    inner.split(',').map(|size| size.trim().parse().map_err(|_| wrong())).collect()
}

/// Why a type's name cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError {
    /// What is wrong.
    pub message: String,
    /// The type that was probably meant.
    pub meant: Option<String>,
    /// Whether there is no type with this name.
    unknown: bool,
}

impl TypeError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), meant: None, unknown: false }
    }

    fn meant(message: &str, meant: &str) -> Self {
        Self { meant: Some(meant.to_owned()), ..Self::new(message) }
    }

    /// With the sizes as written, if the intended type takes some.
    fn sized(self, rest: Option<&str>) -> Self {
        let sizes = rest.map(|rest| format!("({rest}")).unwrap_or_default();
        let sized = |meant: String| match meant.as_str() {
            "numeric" | "decimal" | "varchar" => meant + &sizes,
            _ => meant,
        };
        Self { meant: self.meant.map(sized), ..self }
    }

    /// A hint: the type that was probably meant, or all types.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let all = || format!("there are: {}", TYPE_NAMES.join(", "));
        let meant = self.meant.as_ref().map(|meant| format!("did you mean `{meant}`?"));
        meant.or_else(|| self.unknown.then(all))
    }
}

impl fmt::Display for ColumnType {
    /// Prints the type for messages; SQL is written by the sink.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Varchar(length) => return write!(f, "varchar({length})"),
            Self::SmallInt => "smallint",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Numeric(None) => "numeric",
            Self::Numeric(Some((precision, scale))) => {
                return write!(f, "numeric({precision},{scale})");
            }
            Self::Real => "real",
            Self::Double => "double precision",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamptz => "timestamptz",
            Self::Uuid => "uuid",
            Self::Bytea => "bytea",
            Self::Jsonb => "jsonb",
            Self::Inet => "inet",
            Self::Array(element) => return write!(f, "{element}[]"),
            Self::Named(name) => return write!(f, "{name}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_people_write_them_and_printed_as_one_name() {
        for (written, printed) in [
            ("int", "integer"),
            ("INT8", "bigint"),
            ("numeric(6, 2)", "numeric(6,2)"),
            ("numeric", "numeric"),
            ("decimal(4)", "numeric(4,0)"),
            ("varchar(40)", "varchar(40)"),
            ("text[]", "text[]"),
            ("numeric(6,2)[]", "numeric(6,2)[]"),
            ("bool", "boolean"),
            ("double precision", "double precision"),
            ("reads.mood", "reads.mood"),
        ] {
            assert_eq!(ColumnType::parse(written).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn unknown_types_come_with_a_suggestion() {
        for (wrong, meant) in [
            ("timestampz", "timestamptz"),
            ("json", "jsonb"),
            ("numric(10,2)", "numeric(10,2)"),
            ("Numric( 10, 2 )[]", "numeric( 10, 2 )[]"),
            ("vachar(40)", "varchar(40)"),
            ("txt(3)", "text"),
            ("string", "text"),
            ("datetime[]", "timestamptz[]"),
        ] {
            let error = ColumnType::parse(wrong).unwrap_err();
            assert_eq!(error.hint(), Some(format!("did you mean `{meant}`?")), "{wrong}");
        }
        let error = ColumnType::parse("quux(1)").unwrap_err();
        assert!(error.hint().unwrap().starts_with("there are: text, varchar, "), "{error:?}");
        for wrong in
            ["numeric(0,0)", "numeric(4,5)", "varchar", "text[][]", "numeric(a)", "text(3)"]
        {
            assert!(ColumnType::parse(wrong).is_err(), "{wrong}");
        }
    }
}

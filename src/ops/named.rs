//! Looks up names from the command line in the config. An unknown name is an error that lists the known
//! ones.

use super::wire::tables as tables_of;
use crate::config::{Config, SourceConfig, meant};
use crate::error::{Error, ErrorKind, Result};

/// The source with this name, or `None` without a name.
///
/// # Errors
/// `Usage` when the config has no such source.
pub fn source<'c>(config: &'c Config, name: Option<&str>) -> Result<Option<&'c SourceConfig>> {
    let Some(name) = name else { return Ok(None) };
    let found = config.sources.iter().find(|source| *source.name == *name);
    let known = config.sources.iter().map(|source| source.name.to_string());
    found.map(Some).ok_or_else(|| nothing("source", name, known))
}

/// The source with this name, or the only one.
///
/// # Errors
/// `Usage` when the config has no such source, or several and none is named.
pub fn one<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c SourceConfig> {
    if let Some(source) = source(config, name)? {
        return Ok(source);
    }
    let names: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
    let only = config.sources.first().filter(|_| names.len() == 1);
    only.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "which source?")
            .with_hint(format!("--source {}", names.join(" or --source ")))
    })
}

/// Checks that the mapping fills each of these tables.
///
/// # Errors
/// `Usage` when it does not.
pub fn tables(config: &Config, names: &[String]) -> Result<()> {
    let known: Vec<String> = tables_of(config).iter().map(|table| table.name.to_string()).collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(nothing("target table", name, known)),
        None => Ok(()),
    }
}

/// The error for an unknown name, with the known ones.
#[must_use]
pub fn nothing<N: AsRef<str>>(what: &str, name: &str, known: impl IntoIterator<Item = N>) -> Error {
    let known: Vec<N> = known.into_iter().collect();
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    let error = Error::new(ErrorKind::Usage, format!("there is no {what} {name}"));
    let all = format!("there are: {}", known.join(", "));
    error.with_hint(match meant(name, &known) {
        Some(close) => format!("did you mean {close}? {all}"),
        None => all,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_comes_with_those_that_are() {
        let config = Config::parse(
            include_str!("../../config/santa.toml"),
            "santa.toml",
            &[],
            std::iter::empty(),
        );
        let config = config.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        assert!(source(&config, None).unwrap().is_none());
        assert_eq!(&*source(&config, Some("santa")).unwrap().unwrap().name, "santa");
        let error = source(&config, Some("snata")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "there is no source snata");
        assert_eq!(error.hint(), Some("did you mean santa? there are: santa, reindeer"));
        assert!(tables(&config, &["children".into(), "letter_toys".into()]).is_ok());
        let error = tables(&config, &["letter".into()]).unwrap_err();
        assert!(error.hint().unwrap().starts_with("did you mean letters?"), "{error:?}");
        assert!(nothing("source", "zzz", ["a", "b"]).hint() == Some("there are: a, b"));
    }
}

//! A strict parser of Prometheus' text format, for tests only.

use std::collections::BTreeMap;

/// One metric with its series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) help: String,
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line of the exposition.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) suffix: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Family {
    /// The upper bounds of a histogram's first series.
    pub(crate) fn bounds(&self) -> Vec<f64> {
        let buckets: Vec<_> = self.samples.iter().filter(|s| s.suffix == "_bucket").collect();
        let bound = |sample: &Sample| number(&sample.labels["le"]).unwrap();
        let end = buckets.iter().position(|sample| bound(sample).is_infinite()).unwrap();
        buckets[..=end].iter().map(|sample| bound(sample)).collect()
    }
}

/// Parses the exposition; every sample must follow its TYPE line, be unique and have a number.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without text")?;
            families.entry(checked(name)?.into()).or_default().help = help.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without kind")?;
            let family = families.entry(checked(name)?.into()).or_default();
            if !family.kind.is_empty() {
                return Err(format!("second TYPE of {name}"));
            }
            family.kind = kind.into();
            current = name.into();
        } else {
            let family = families.get_mut(&current).ok_or("sample before any TYPE")?;
            let sample = sample(&current, line)?;
            let twin = |own: &Sample| own.suffix == sample.suffix && own.labels == sample.labels;
            if family.samples.iter().any(twin) {
                return Err(format!("series twice: {line}"));
            }
            family.samples.push(sample);
        }
    }
    for (name, family) in &families {
        check_histogram(name, family)?;
    }
    Ok(families)
}

fn sample(family: &str, line: &str) -> Result<Sample, String> {
    let (series, value) = line.rsplit_once(' ').ok_or_else(|| format!("no value: {line}"))?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').ok_or("labels do not end")?),
        None => (series, ""),
    };
    let suffix = name.strip_prefix(family).ok_or_else(|| format!("{name} is not of {family}"))?;
    let value = number(value).ok_or_else(|| format!("not a number: {line}"))?;
    Ok(Sample { suffix: suffix.into(), labels: pairs(labels)?, value })
}

fn pairs(mut text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").ok_or("label without a value")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().ok_or("label does not end")? {
                (at, '"') => break at,
                (_, '\\') => value.push(chars.next().ok_or("lone backslash")?.1),
                (_, other) => value.push(other),
            }
        };
        if labels.insert(checked(name)?.to_owned(), value).is_some() {
            return Err(format!("label twice: {name}"));
        }
        text = rest[end + 1..].trim_start_matches(',');
    }
    Ok(labels)
}

fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    if family.kind != "histogram" {
        return Ok(());
    }
    let of = |suffix: &str| family.samples.iter().find(|sample| sample.suffix == suffix);
    let last = family.samples.iter().find(|sample| {
        sample.suffix == "_bucket" && sample.labels.get("le").is_some_and(|le| le == "+Inf")
    });
    match (of("_count"), of("_sum"), last) {
        (Some(count), Some(_), Some(last)) if count.value.to_bits() == last.value.to_bits() => {}
        _ => return Err(format!("{name}: _count, _sum and +Inf do not agree")),
    }
    let bounds = family.bounds();
    if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(format!("{name}: bounds do not rise"));
    }
    Ok(())
}

fn checked(name: &str) -> Result<&str, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() || !name.chars().all(legal)
    {
        return Err(format!("not a name: {name:?}"));
    }
    Ok(name)
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        other => other.parse().ok(),
    }
}

//! All mistakes at once, each with its line, a caret and a hint.

use std::borrow::Cow;
use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::error::{Error, ErrorKind};
use crate::mapping::definition::{Problem, Span};

/// Everything wrong with a config.
#[derive(Clone, Default)]
pub struct Diagnostics {
    texts: Vec<Text>,
    problems: Vec<Problem>,
}

/// One of the texts that a config comes from: the file, or an override.
#[derive(Clone)]
struct Text {
    name: String,
    text: String,
}

/// The place of a rendered problem.
enum Place<'a> {
    /// Lines of a text.
    Lines(&'a Text),
    /// No place.
    Nowhere,
}

impl Diagnostics {
    /// No problems yet, and no texts.
    pub(super) fn new() -> Self {
        Self { texts: Vec::new(), problems: Vec::new() }
    }

    /// Adds a text and returns its number.
    pub(super) fn add_text(&mut self, name: impl Into<String>, text: impl Into<String>) -> u16 {
        self.texts.push(Text { name: name.into(), text: text.into() });
        u16::try_from(self.texts.len() - 1).unwrap_or(u16::MAX)
    }

    /// The number of texts.
    pub(super) fn texts(&self) -> usize {
        self.texts.len()
    }

    /// Adds problems.
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    /// Masks the text at `span` with asterisks, because a message may show the line.
    pub(super) fn mask(&mut self, span: Span) {
        let Some(text) = self.texts.get_mut(usize::from(span.source)) else { return };
        let (start, end) = (offset(span.start), offset(span.end));
        if let Some(secret) = text.text.get(start..end) {
            let stars = "*".repeat(secret.len());
            text.text.replace_range(start..end, &stars);
        }
    }

    /// The problems in text order.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Sorts the problems in text order.
    pub(super) fn sort(&mut self) {
        self.problems.sort_by_key(|problem| problem.span);
        self.problems.dedup();
    }

    /// The line and column of a problem, both from 1, with the name of its text.
    #[must_use]
    pub fn locate(&self, problem: &Problem) -> Option<(&str, usize, usize)> {
        let text = self.texts.get(usize::from(problem.span.source))?;
        let before = text.text.get(..offset(problem.span.start))?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((&text.name, line, column))
    }

    /// The report for people, with or without colours.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut report = String::new();
        for problem in &self.problems {
            report.push_str(&renderer.render(&[self.group(problem)]));
            report.push_str("\n\n");
        }
        let count = self.problems.len();
        let plural = if count == 1 { "problem" } else { "problems" };
        report.push_str(&format!("{count} {plural} in the config"));
        report
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(problem.message.as_str()));
        match self.place(problem.span) {
            Place::Lines(text) => {
                let mut snippet = snippet(text)
                    .annotation(AnnotationKind::Primary.span(range(problem.span, &text.text)));
                let mut others = Vec::new();
                for (span, label) in &problem.related {
                    let context = AnnotationKind::Context;
                    if span.source == problem.span.source {
                        let context = context.span(range(*span, &text.text));
                        snippet = snippet.annotation(context.label(label.as_str()));
                    } else if let Place::Lines(other) = self.place(*span) {
                        let context = context.span(range(*span, &other.text));
                        others.push(snippet_of(other, context, label));
                    }
                }
                group = group.element(snippet).elements(others);
            }
            Place::Nowhere => {
                if let Some(text) = self.texts.first() {
                    group = group.element(Origin::path(text.name.as_str()));
                }
            }
        }
        match &problem.hint {
            Some(hint) => group.element(Level::HELP.message(hint.as_str())),
            None => group,
        }
    }

    fn place(&self, span: Span) -> Place<'_> {
        match self.texts.get(usize::from(span.source)) {
            Some(text) if span.end > 0 && !text.text.is_empty() => Place::Lines(text),
            _ => Place::Nowhere,
        }
    }
}

fn snippet<'a>(text: &'a Text) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    Snippet::source(Cow::Borrowed(text.text.as_str())).path(text.name.as_str())
}

fn snippet_of<'a>(
    text: &'a Text,
    annotation: annotate_snippets::Annotation<'a>,
    label: &'a str,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    snippet(text).annotation(annotation.label(label))
}

/// The span as a range of the text, within its bounds and at character boundaries.
fn range(span: Span, text: &str) -> std::ops::Range<usize> {
    let bound = |at: u32| {
        let at = offset(at).min(text.len());
        (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    };
    let (start, end) = (bound(span.start), bound(span.end));
    // A table's or a long array's span may have many lines; the first one suffices.
    let line = text.get(start..end).and_then(|lines| lines.find('\n'));
    start..line.map_or(end.max(start), |line| start + line)
}

fn offset(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::new(ErrorKind::Config, "the config is wrong").with_source(diagnostics)
    }
}

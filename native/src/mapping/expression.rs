//! What a mapping file says a column is made of, evaluated for one event.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::{
    json::{Kind, Value, canonical, unquoted},
    plan::{PlanError, Reader},
    shape::Node,
};
use crate::decode::semantics::http_outcome;

/// The values of one event by their place, and the instants among them.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub values: &'a [Value<'a>],
    pub times: &'a [Option<i64>],
}

/// What an expression yields.
#[derive(Clone, Debug, Default)]
pub enum Cell<'a> {
    #[default]
    None,
    Value(Value<'a>),
    Text(Cow<'a, str>),
    Number(f64),
    Time(i64),
}

#[derive(Debug)]
pub enum Expression {
    Path(Node),
    Constant(Constant),
    First(Vec<Expression>),
    Words {
        of: Box<Expression>,
        table: HashMap<Box<str>, Box<str>>,
        other: Box<Expression>,
    },
    Contains {
        of: Box<Expression>,
        list: Vec<(Box<str>, Box<str>)>,
        other: Box<Expression>,
    },
    If {
        test: Box<Test>,
        then: Box<Expression>,
        other: Box<Expression>,
    },
    Join {
        parts: Vec<Expression>,
        by: Box<str>,
    },
    Upper(Box<Expression>),
    Lower(Box<Expression>),
    Strip(Box<Expression>, Vec<Box<str>>),
    /// What stands before the first of these, or all; `true`: nothing where none is there.
    Before(Box<Expression>, Box<str>, bool),
    After(Box<Expression>, Box<str>),
    /// The n-th part of a text, from 0.
    Part(Box<Expression>, Box<str>, usize),
    Replace(Box<Expression>, Box<str>, Box<str>),
    /// The text where it has this many characters of the class.
    Letters(Box<Expression>, usize),
    Hex(Box<Expression>, usize),
    Minus(Box<Expression>, Box<Expression>),
    /// The number that a text is.
    Number(Box<Expression>),
    /// The value where it is a text.
    Text(Box<Expression>),
    Canonical(Box<Expression>),
    HttpOutcome(Box<Expression>),
    HttpReason(Box<Expression>),
    /// The end of a URL's path after its last dot, lower case.
    Extension(Box<Expression>),
    /// Milliseconds between two instants.
    Between(Node, Node),
    /// The rating of a web vital of this name and value.
    Rating(Box<Expression>, Box<Expression>),
    Nothing,
}

#[derive(Debug)]
pub enum Constant {
    Text(Box<str>),
    Number(f64),
}

#[derive(Debug)]
pub enum Test {
    Present(Expression),
    In(Expression, Vec<Box<str>>),
    Less(Expression, Expression),
    Equal(Expression, Expression),
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
}

impl<'a> Cell<'a> {
    pub fn is_none(&self) -> bool {
        match self {
            Cell::None => true,
            Cell::Value(value) => !value.is_present(),
            Cell::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    /// A scalar as text: numbers as short as they can be written.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Cell::Value(value) => match value.kind {
                Kind::Text => Some(unquoted(value.raw).0),
                Kind::Number => Some(shortest(value.raw)),
                Kind::True | Kind::False => Some(Cow::Borrowed(value.raw)),
                _ => None,
            },
            Cell::Text(text) => Some(text.clone()),
            Cell::Number(number) => Some(Cow::Owned(print(*number))),
            Cell::Time(ns) => Some(Cow::Owned(ns.to_string())),
            Cell::None => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Cell::Value(value) if value.kind == Kind::Number => value.raw.parse().ok().filter(|n: &f64| n.is_finite()),
            Cell::Number(number) => Some(*number),
            // Distances of instants are milliseconds.
            Cell::Time(ns) => Some(*ns as f64 / 1e6),
            _ => None,
        }
    }
}

/// A number's text without a fraction of zeros.
pub fn shortest(raw: &str) -> Cow<'_, str> {
    if !raw.contains(['.', 'e', 'E']) {
        return Cow::Borrowed(raw);
    }
    match raw.parse::<f64>() {
        Ok(number) if number.is_finite() => Cow::Owned(print(number)),
        _ => Cow::Borrowed(raw),
    }
}

pub fn print(number: f64) -> String {
    let text = ryu::Buffer::new().format(number).to_owned();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

impl Expression {
    pub fn eval<'a>(&'a self, event: &Event<'a>) -> Cell<'a> {
        let text = |of: &'a Expression| of.eval(event).text();
        match self {
            Expression::Path(node) => match event.times[*node as usize] {
                Some(ns) => Cell::Time(ns),
                None => Cell::Value(event.values[*node as usize]),
            },
            Expression::Constant(Constant::Text(text)) => Cell::Text(Cow::Borrowed(text)),
            Expression::Constant(Constant::Number(number)) => Cell::Number(*number),
            Expression::First(list) => {
                list.iter().map(|one| one.eval(event)).find(|cell| !cell.is_none()).unwrap_or_default()
            }
            Expression::Words { of, table, other } => match text(of).and_then(|word| table.get(&*word)) {
                Some(word) => Cell::Text(Cow::Borrowed(word)),
                None if of.eval(event).is_none() => Cell::None,
                None => other.eval(event),
            },
            Expression::Contains { of, list, other } => match text(of).filter(|text| !text.is_empty()) {
                Some(text) => {
                    let text = text.to_ascii_lowercase();
                    match list.iter().find(|(part, _)| text.contains(&**part)) {
                        Some((_, word)) => Cell::Text(Cow::Borrowed(word)),
                        None => other.eval(event),
                    }
                }
                None => Cell::None,
            },
            Expression::If { test, then, other } => {
                if test.holds(event) {
                    then.eval(event)
                } else {
                    other.eval(event)
                }
            }
            Expression::Join { parts, by } => {
                let mut joined = String::new();
                for (index, part) in parts.iter().enumerate() {
                    let Some(text) = part.eval(event).text().filter(|text| !text.is_empty()) else { return Cell::None };
                    if index > 0 {
                        joined.push_str(by);
                    }
                    joined.push_str(&text);
                }
                Cell::Text(Cow::Owned(joined))
            }
            Expression::Upper(of) => changed(text(of), |text| match text.bytes().any(|b| b.is_ascii_lowercase()) {
                true => Cow::Owned(text.to_ascii_uppercase()),
                false => text,
            }),
            Expression::Lower(of) => changed(text(of), |text| match text.bytes().any(|b| b.is_ascii_uppercase()) {
                true => Cow::Owned(text.to_ascii_lowercase()),
                false => text,
            }),
            Expression::Strip(of, prefixes) => changed(text(of), |text| {
                let found =
                    prefixes.iter().find(|prefix| text.starts_with(&***prefix)).map_or(0, |prefix| prefix.len());
                cut(text, found, usize::MAX)
            }),
            Expression::Before(of, mark, strict) => match text(of) {
                Some(text) => match text.find(&**mark) {
                    Some(at) => Cell::Text(cut(text, 0, at)),
                    None if *strict => Cell::None,
                    None => Cell::Text(text),
                },
                None => Cell::None,
            },
            Expression::After(of, mark) => match text(of) {
                Some(text) => {
                    text.find(&**mark).map_or(Cell::None, |at| Cell::Text(cut(text, at + mark.len(), usize::MAX)))
                }
                None => Cell::None,
            },
            Expression::Part(of, by, number) => match text(of) {
                Some(text) => {
                    text.split(&**by).nth(*number).map_or(Cell::None, |part| Cell::Text(Cow::Owned(part.to_owned())))
                }
                None => Cell::None,
            },
            Expression::Replace(of, from, to) => changed(text(of), |text| match text.contains(&**from) {
                true => Cow::Owned(text.replace(&**from, to)),
                false => text,
            }),
            Expression::Letters(of, count) => only(text(of), |b| b.is_ascii_alphabetic(), *count),
            Expression::Hex(of, count) => only(text(of), |b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b), *count),
            Expression::Minus(a, b) => match (a.eval(event).number(), b.eval(event).number()) {
                (Some(a), Some(b)) => Cell::Number(a - b),
                _ => Cell::None,
            },
            Expression::Number(of) => match of.eval(event) {
                Cell::Value(value) if value.kind == Kind::Text => {
                    let number = unquoted(value.raw).0.trim().parse().ok().filter(|n: &f64| n.is_finite());
                    number.map_or(Cell::None, Cell::Number)
                }
                cell => cell.number().map_or(Cell::None, Cell::Number),
            },
            Expression::Text(of) => match of.eval(event) {
                Cell::Value(value) if value.kind != Kind::Text => Cell::None,
                cell => cell,
            },
            Expression::Canonical(of) => match of.eval(event) {
                Cell::Value(value) if matches!(value.kind, Kind::Object | Kind::List) => {
                    let mut out = Vec::new();
                    canonical(value, &mut out);
                    Cell::Text(Cow::Owned(String::from_utf8(out).expect("canonical JSON of text is text")))
                }
                cell => cell.text().map_or(Cell::None, Cell::Text),
            },
            Expression::HttpOutcome(of) => match of.eval(event).number() {
                Some(status) => Cell::Text(Cow::Borrowed(http_outcome(status as i64))),
                None => Cell::None,
            },
            Expression::HttpReason(of) => match of.eval(event).number() {
                Some(400.0..500.0) => Cell::Text(Cow::Borrowed("client_error")),
                Some(500.0..600.0) => Cell::Text(Cow::Borrowed("server_error")),
                _ => Cell::None,
            },
            Expression::Extension(of) => match text(of) {
                Some(url) => extension(&url),
                None => Cell::None,
            },
            Expression::Between(from, to) => match (event.times[*from as usize], event.times[*to as usize]) {
                (Some(from), Some(to)) => Cell::Number(between(from, to)),
                _ => Cell::None,
            },
            Expression::Rating(name, value) => match (text(name), value.eval(event).number()) {
                (Some(name), Some(value)) => rating(&name, value),
                _ => Cell::None,
            },
            Expression::Nothing => Cell::None,
        }
    }

    /// Every place that the expression reads.
    pub fn read(reader: &mut Reader, spec: Value) -> Result<Expression, PlanError> {
        if spec.kind == Kind::Missing || spec.kind == Kind::Null {
            return Ok(Expression::Nothing);
        }
        let boxed = |reader: &mut Reader, name: &str| Expression::read(reader, spec.get(name)).map(Box::new);
        let of = |reader: &mut Reader| boxed(reader, "of");
        let text = |name: &str| spec.get(name).text().map(|(text, _)| Box::<str>::from(&*text)).unwrap_or_default();
        let count = |name: &str| spec.get(name).raw.parse().unwrap_or_default();
        Ok(match &*text("op") {
            "path" => Expression::Path(reader.place(spec.get("path"))?),
            "text" => Expression::Constant(Constant::Text(text("value"))),
            "number" => {
                Expression::Constant(Constant::Number(spec.get("value").raw.parse().map_err(|_| PlanError::of(spec))?))
            }
            "first" => Expression::First(Expression::read_all(reader, spec.get("list"))?),
            "words" => Expression::Words {
                of: of(reader)?,
                table: pairs(spec.get("table")).into_iter().collect(),
                other: boxed(reader, "else")?,
            },
            "contains" => {
                Expression::Contains { of: of(reader)?, list: pairs(spec.get("table")), other: boxed(reader, "else")? }
            }
            "if" => Expression::If {
                test: Box::new(Test::read(reader, spec.get("test"))?),
                then: boxed(reader, "then")?,
                other: boxed(reader, "else")?,
            },
            "join" => Expression::Join { parts: Expression::read_all(reader, spec.get("list"))?, by: text("by") },
            "upper" => Expression::Upper(of(reader)?),
            "lower" => Expression::Lower(of(reader)?),
            "strip" => Expression::Strip(of(reader)?, texts(spec.get("list"))),
            "before" => Expression::Before(of(reader)?, text("mark"), spec.get("strict").kind == Kind::True),
            "after" => Expression::After(of(reader)?, text("mark")),
            "part" => Expression::Part(of(reader)?, text("by"), count("number")),
            "replace" => Expression::Replace(of(reader)?, text("from"), text("to")),
            "letters" => Expression::Letters(of(reader)?, count("count")),
            "hex" => Expression::Hex(of(reader)?, count("count")),
            "minus" => Expression::Minus(boxed(reader, "a")?, boxed(reader, "b")?),
            "to_number" => Expression::Number(of(reader)?),
            "to_text" => Expression::Text(of(reader)?),
            "canonical" => Expression::Canonical(of(reader)?),
            "http_outcome" => Expression::HttpOutcome(of(reader)?),
            "http_reason" => Expression::HttpReason(of(reader)?),
            "extension" => Expression::Extension(of(reader)?),
            "between" => Expression::Between(reader.place(spec.get("a"))?, reader.place(spec.get("b"))?),
            "rating" => Expression::Rating(boxed(reader, "a")?, boxed(reader, "b")?),
            _ => return Err(PlanError::of(spec)),
        })
    }

    pub fn read_all(reader: &mut Reader, list: Value) -> Result<Vec<Expression>, PlanError> {
        list.items().map(|item| Expression::read(reader, item)).collect()
    }
}

/// Milliseconds from one instant to another, exact in nanoseconds first.
pub fn between(from: i64, to: i64) -> f64 {
    (i128::from(to) - i128::from(from)) as f64 / 1e6
}

fn changed<'a>(text: Option<Cow<'a, str>>, change: impl FnOnce(Cow<'a, str>) -> Cow<'a, str>) -> Cell<'a> {
    text.map_or(Cell::None, |text| Cell::Text(change(text)))
}

fn cut(text: Cow<'_, str>, from: usize, to: usize) -> Cow<'_, str> {
    let to = to.min(text.len());
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[from..to]),
        Cow::Owned(text) => Cow::Owned(text[from..to].to_owned()),
    }
}

fn only<'a>(text: Option<Cow<'a, str>>, class: impl Fn(u8) -> bool, count: usize) -> Cell<'a> {
    match text.filter(|text| text.len() == count && text.bytes().all(class)) {
        Some(text) => Cell::Text(text),
        None => Cell::None,
    }
}

fn extension<'a>(url: &str) -> Cell<'a> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit_once('/').map_or(path, |(_, file)| file).rsplit_once('.') {
        Some((_, end)) => Cell::Text(Cow::Owned(end.to_ascii_lowercase())),
        None => Cell::None,
    }
}

/// Specification 3.9: good up to the first bound, poor above the second.
fn rating<'a>(name: &str, value: f64) -> Cell<'a> {
    let (good, poor) = match name.to_ascii_uppercase().as_str() {
        "LCP" => (2500.0, 4000.0),
        "INP" => (200.0, 500.0),
        "CLS" => (0.1, 0.25),
        "FCP" => (1800.0, 3000.0),
        "TTFB" => (800.0, 1800.0),
        "FID" => (100.0, 300.0),
        _ => return Cell::None,
    };
    let word = if value <= good {
        "good"
    } else if value <= poor {
        "needs-improvement"
    } else {
        "poor"
    };
    Cell::Text(Cow::Borrowed(word))
}

impl Test {
    pub fn holds(&self, event: &Event) -> bool {
        match self {
            Test::Present(of) => !of.eval(event).is_none(),
            Test::In(of, words) => of.eval(event).text().is_some_and(|text| words.iter().any(|word| **word == *text)),
            Test::Less(a, b) => matches!((a.eval(event).number(), b.eval(event).number()), (Some(a), Some(b)) if a < b),
            Test::Equal(a, b) => {
                matches!((a.eval(event).number(), b.eval(event).number()), (Some(a), Some(b)) if a == b)
            }
            Test::All(list) => list.iter().all(|test| test.holds(event)),
            Test::Any(list) => list.iter().any(|test| test.holds(event)),
            Test::Not(test) => !test.holds(event),
        }
    }

    fn read(reader: &mut Reader, spec: Value) -> Result<Test, PlanError> {
        let one = |reader: &mut Reader, name: &str| Expression::read(reader, spec.get(name));
        let all = |reader: &mut Reader| -> Result<Vec<Test>, PlanError> {
            spec.get("list").items().map(|item| Test::read(reader, item)).collect()
        };
        Ok(match spec.get("op").text().map(|(text, _)| text).as_deref() {
            Some("present") => Test::Present(one(reader, "of")?),
            Some("in") => Test::In(one(reader, "of")?, texts(spec.get("list"))),
            Some("less") => Test::Less(one(reader, "a")?, one(reader, "b")?),
            Some("equal") => Test::Equal(one(reader, "a")?, one(reader, "b")?),
            Some("all") => Test::All(all(reader)?),
            Some("any") => Test::Any(all(reader)?),
            Some("not") => Test::Not(Box::new(Test::read(reader, spec.get("of"))?)),
            _ => return Err(PlanError::of(spec)),
        })
    }
}

pub fn texts(list: Value) -> Vec<Box<str>> {
    list.items().filter_map(|item| item.text()).map(|(text, _)| Box::from(&*text)).collect()
}

/// A list of pairs of texts.
pub fn pairs(list: Value) -> Vec<(Box<str>, Box<str>)> {
    let pair = |item: Value| {
        let mut both = texts(item).into_iter();
        Some((both.next()?, both.next()?))
    };
    list.items().filter_map(pair).collect()
}

//! A mapping as the engine runs it, read from the plain form that the mapping files' compiler writes (JSON text).
//!
//! The compiler has checked the file; what is wrong here is a disagreement between the two, told as a `PlanError`.

use hashbrown::HashMap;

use super::{
    expression::{Expression, pairs, texts},
    json::{Kind, Value},
    shape::{Node, Shape},
    time::Format,
};
use crate::schema::Col;

/// A plan that this engine does not know how to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError(pub String);

impl PlanError {
    pub fn of(value: Value) -> PlanError {
        PlanError(format!("not understood: {}", value.raw))
    }
}

/// What a field's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Any,
    Text,
    Uuid,
    Number,
    Integer,
    Boolean,
    Object,
    List,
}

/// Where a field's value lives.
#[derive(Debug)]
pub enum Home {
    Column(Col),
    /// Within a JSON column; a `Template` writes it.
    Member,
    /// A JSON column as a whole, or `context` with our keys added.
    Bag(Col),
    Label(Box<str>),
    Attribute(Box<str>),
    /// Every member of the object becomes an entry of the map.
    Labels,
    Attributes,
    /// `$src`, as it came.
    Source,
    /// Nowhere: a secret.
    Nothing,
    /// It repeats another field.
    Same(Node),
    /// The tenant; `true`: only where the event says otherwise is it told that it says so.
    Namespace(bool),
    Id,
    /// It is what `event_source` stands for.
    Constant(Box<str>),
}

#[derive(Debug)]
pub struct Field {
    pub node: Node,
    pub path: Box<str>,
    pub is: Is,
    pub required: bool,
    /// The JSON that an empty home stands for; `None` = an absent member.
    pub empty: Option<Box<str>>,
    pub one_of: Vec<Box<str>>,
    pub format: Option<Format>,
    pub home: Home,
    /// Its quoted key in `$src`.
    pub name: Box<str>,
    pub made_of: Option<Expression>,
    /// Closed vocabularies: the source's word to ours, and back.
    pub words: HashMap<Box<str>, Box<str>>,
    pub back: HashMap<Box<str>, Box<str>>,
    /// The stored number is what is left after this one is taken away.
    pub plus: Option<Node>,
    /// The stored number is what is left of this one when the value is taken away.
    pub until: Option<Node>,
    /// The place whose value stands for this one where it is absent.
    pub default: Option<Node>,
    /// Instants whose distance stands for the value where it is absent.
    pub between: Option<(Node, Node)>,
}

/// Where a computed value goes.
#[derive(Debug)]
pub enum Target {
    Column(Col),
    Label(Box<str>),
    Attribute(Box<str>),
}

#[derive(Debug, Default)]
pub struct Part {
    pub fields: Vec<Field>,
    pub columns: Vec<(Target, Expression)>,
}

#[derive(Debug)]
pub enum Origin {
    Place(Node),
    Computed(Expression),
}

/// How a JSON column is put together.
#[derive(Debug)]
pub struct Template {
    pub col: Col,
    pub base: Option<Node>,
    /// The object whose unnamed members stand here.
    pub rest: Option<Node>,
    /// Quoted keys from the column's root, members of one object side by side.
    pub members: Vec<(Vec<Box<str>>, Origin)>,
}

#[derive(Debug)]
pub enum Rows {
    One,
    /// One row per item of a list, items having a shape of their own.
    Each {
        list: Node,
        shape: Shape,
        part: Part,
    },
    /// One row per part; a part whose place is absent makes none.
    Fixed(Vec<(Option<Node>, Part)>),
}

#[derive(Debug)]
pub struct KeyPart {
    pub of: Expression,
    pub required: bool,
    /// Not the values but the digest of their canonical JSON.
    pub digest: Vec<Node>,
}

/// What the request knows and the event may lack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    pub client_ip: bool,
    /// Where the event itself says it.
    pub ip_place: Option<Node>,
    pub user_agent: bool,
    pub referer: bool,
}

/// Segment's correction of a client's clock.
#[derive(Debug)]
pub struct Clock {
    pub original: Node,
    pub timestamp: Node,
    pub sent: Node,
    pub received: Node,
}

#[derive(Debug)]
pub struct Mapping {
    pub source: Box<str>,
    /// Quoted; among mappings of one `event_source` it says which.
    pub form: Option<Box<str>>,
    pub strict: bool,
    pub shape: Shape,
    pub body: Part,
    pub require: Vec<(Box<str>, Vec<Node>)>,
    pub templates: Vec<Template>,
    pub rows: Rows,
    pub keys: Vec<Vec<KeyPart>>,
    /// Top-level keys that say nothing about the event itself.
    pub undigested: Vec<Box<str>>,
    pub fill: Fill,
    pub clock: Option<Clock>,
    /// Paths that a request for privacy takes away.
    pub personal: Vec<Vec<Box<str>>>,
    /// Whether control characters are taken out of texts.
    pub sanitise: bool,
    /// By the place of the member's name among those that the format asks for.
    pub when: Vec<(usize, When)>,
}

/// A condition on a top-level member.
#[derive(Debug)]
pub enum When {
    In(Vec<Box<str>>),
    Present,
    Absent,
}

/// Paths of the mapping that is being read.
pub struct Reader {
    shape: Shape,
}

impl Reader {
    pub fn place(&mut self, path: Value) -> Result<Node, PlanError> {
        let text = path.text().ok_or_else(|| PlanError::of(path))?.0;
        self.shape.place(&text).ok_or_else(|| PlanError(format!("not a path: {text}")))
    }

    fn maybe(&mut self, path: Value) -> Result<Option<Node>, PlanError> {
        if path.kind == Kind::Text { self.place(path).map(Some) } else { Ok(None) }
    }
}

fn text(value: Value) -> Result<Box<str>, PlanError> {
    value.text().map(|(text, _)| Box::from(&*text)).ok_or_else(|| PlanError::of(value))
}

fn quoted(text: &str) -> Box<str> {
    let mut out = Vec::new();
    crate::decode::any_value::json_text(&mut out, text.as_bytes());
    String::from_utf8(out).expect("quoted text is text").into()
}

fn column(value: Value) -> Result<Col, PlanError> {
    Col::from_name(&text(value)?).ok_or_else(|| PlanError::of(value))
}

impl Mapping {
    /// Reads a plan; `asked` are the members that conditions are about, over all mappings of a format.
    pub fn of(plan: Value, asked: &mut Vec<Box<str>>) -> Result<Mapping, PlanError> {
        let mut reader = Reader { shape: Shape::default() };
        let body = part(&mut reader, plan)?;
        let templates = plan.get("templates").items().map(|item| template(&mut reader, item));
        let templates: Vec<Template> = templates.collect::<Result<_, _>>()?;
        let require = plan.get("require").items().map(|item| {
            let nodes = item.get("any").items().map(|path| reader.place(path)).collect::<Result<_, _>>()?;
            Ok((text(item.get("name"))?, nodes))
        });
        let require = require.collect::<Result<_, PlanError>>()?;
        let rows = rows(&mut reader, plan.get("rows"))?;
        let keys = plan.get("keys").items().map(|list| key_parts(&mut reader, list)).collect::<Result<_, _>>()?;
        let fill = plan.get("fill");
        let fill = Fill {
            client_ip: fill.get("client_ip").is_present(),
            ip_place: reader.maybe(fill.get("client_ip"))?,
            user_agent: fill.get("user_agent").kind == Kind::True,
            referer: fill.get("referer").kind == Kind::True,
        };
        let clock = match plan.get("clock") {
            clock if clock.kind == Kind::Object => Some(Clock {
                original: reader.place(clock.get("original"))?,
                timestamp: reader.place(clock.get("timestamp"))?,
                sent: reader.place(clock.get("sent"))?,
                received: reader.place(clock.get("received"))?,
            }),
            _ => None,
        };
        let lifted: Vec<Node> = templates.iter().filter_map(|t| t.rest).collect();
        let mut shape = reader.shape;
        shape.close(&lifted);
        let form = plan.get("form");
        Ok(Mapping {
            source: text(plan.get("source"))?,
            form: (form.kind == Kind::Text).then(|| form.raw.into()),
            strict: plan.get("strict").kind == Kind::True,
            shape,
            body,
            require,
            templates,
            rows,
            keys,
            undigested: texts(plan.get("undigested")).iter().map(|key| quoted(key)).collect(),
            fill,
            clock,
            personal: plan.get("personal").items().map(path).collect(),
            sanitise: plan.get("sanitise").kind == Kind::True,
            when: plan.get("when").items().map(|item| when(item, asked)).collect::<Result<_, _>>()?,
        })
    }
}

/// Quoted keys.
fn path(list: Value) -> Vec<Box<str>> {
    texts(list).iter().map(|key| quoted(key)).collect()
}

fn when(item: Value, asked: &mut Vec<Box<str>>) -> Result<(usize, When), PlanError> {
    let name = quoted(&text(item.get("name"))?);
    let at = asked.iter().position(|known| *known == name).unwrap_or(asked.len());
    if at == asked.len() {
        asked.push(name);
    }
    Ok(match item.get("test").text().map(|(text, _)| text).as_deref() {
        Some("present") => (at, When::Present),
        Some("absent") => (at, When::Absent),
        _ => (at, When::In(texts(item.get("in")))),
    })
}

fn part(reader: &mut Reader, plan: Value) -> Result<Part, PlanError> {
    let mut part = Part::default();
    for item in plan.get("fields").items() {
        part.fields.push(field(reader, item)?);
    }
    for item in plan.get("columns").items() {
        let target = match (item.get("column"), item.get("label"), item.get("attribute")) {
            (name, _, _) if name.kind == Kind::Text => Target::Column(column(name)?),
            (_, key, _) if key.kind == Kind::Text => Target::Label(text(key)?),
            (_, _, key) => Target::Attribute(text(key)?),
        };
        part.columns.push((target, Expression::read(reader, item.get("from"))?));
    }
    Ok(part)
}

fn template(reader: &mut Reader, spec: Value) -> Result<Template, PlanError> {
    let mut members = Vec::new();
    for item in spec.get("members").items() {
        let origin = match item.get("place").kind {
            Kind::Text => Origin::Place(reader.place(item.get("place"))?),
            _ => Origin::Computed(Expression::read(reader, item.get("from"))?),
        };
        members.push((path(item.get("path")), origin));
    }
    Ok(Template {
        col: column(spec.get("column"))?,
        base: reader.maybe(spec.get("base"))?,
        rest: reader.maybe(spec.get("rest"))?,
        members,
    })
}

fn field(reader: &mut Reader, spec: Value) -> Result<Field, PlanError> {
    let node = reader.place(spec.get("path"))?;
    let words = pairs(spec.get("words"));
    let back = words.iter().rev().map(|(from, to)| (to.clone(), from.clone())).collect();
    let both = spec.get("between");
    let between = match both.kind {
        Kind::Object => Some((reader.place(both.get("a"))?, reader.place(both.get("b"))?)),
        _ => None,
    };
    Ok(Field {
        node,
        path: text(spec.get("label")).or_else(|_| text(spec.get("path")))?,
        is: is(spec.get("is"))?,
        required: spec.get("required").kind == Kind::True,
        empty: spec.get("empty").text().map(|(text, _)| Box::from(&*text)),
        one_of: texts(spec.get("in")),
        format: format(spec.get("time"))?,
        home: home(reader, node, spec.get("to"))?,
        name: quoted(&text(spec.get("src"))?),
        made_of: match Expression::read(reader, spec.get("as"))? {
            Expression::Nothing => None,
            expression => Some(expression),
        },
        words: words.into_iter().collect(),
        back,
        plus: reader.maybe(spec.get("plus"))?,
        until: reader.maybe(spec.get("until"))?,
        between,
        default: reader.maybe(spec.get("default"))?,
    })
}

fn is(spec: Value) -> Result<Is, PlanError> {
    Ok(match spec.text().map(|(text, _)| text).as_deref() {
        None | Some("any") => Is::Any,
        Some("text") => Is::Text,
        Some("uuid") => Is::Uuid,
        Some("number") => Is::Number,
        Some("integer") => Is::Integer,
        Some("boolean") => Is::Boolean,
        Some("object") => Is::Object,
        Some("list") => Is::List,
        _ => return Err(PlanError::of(spec)),
    })
}

fn format(spec: Value) -> Result<Option<Format>, PlanError> {
    Ok(match spec.text().map(|(text, _)| text).as_deref() {
        None => None,
        Some("iso") => Some(Format::Iso),
        Some("ms") => Some(Format::Milliseconds),
        Some("iso_or_epoch") => Some(Format::IsoOrEpoch),
        _ => return Err(PlanError::of(spec)),
    })
}

fn home(reader: &mut Reader, node: Node, to: Value) -> Result<Home, PlanError> {
    let name = || text(to.get("name"));
    let kind = text(to.get("kind"))?;
    match &*kind {
        "member" | "bag" | "attribute" | "src" | "none" | "rows" => reader.shape.set_bag(node),
        "labels" | "attributes" => reader.shape.set_map(node),
        _ => {}
    }
    Ok(match &*kind {
        "column" => Home::Column(column(to.get("name"))?),
        // What a bag holds, or rows, needs no home of its own.
        "member" | "within" | "rows" => Home::Member,
        "bag" => Home::Bag(column(to.get("name"))?),
        "label" => Home::Label(name()?),
        "attribute" => Home::Attribute(name()?),
        "labels" => Home::Labels,
        "attributes" => Home::Attributes,
        "src" => Home::Source,
        "none" => Home::Nothing,
        "same" => Home::Same(reader.place(to.get("path"))?),
        "ns" => Home::Namespace(to.get("optional").kind == Kind::True),
        "id" => Home::Id,
        "source" => Home::Constant(name()?),
        _ => return Err(PlanError::of(to)),
    })
}

fn rows(reader: &mut Reader, spec: Value) -> Result<Rows, PlanError> {
    if spec.get("each").kind == Kind::Text {
        let list = reader.place(spec.get("each"))?;
        reader.shape.set_bag(list);
        let mut inner = Reader { shape: Shape::default() };
        let part = part(&mut inner, spec)?;
        inner.shape.close(&[]);
        return Ok(Rows::Each { list, shape: inner.shape, part });
    }
    let mut list = Vec::new();
    for item in spec.get("fixed").items() {
        list.push((reader.maybe(item.get("where"))?, part(reader, item)?));
    }
    Ok(if list.is_empty() { Rows::One } else { Rows::Fixed(list) })
}

fn key_parts(reader: &mut Reader, list: Value) -> Result<Vec<KeyPart>, PlanError> {
    let read = |item: Value| {
        Ok(KeyPart {
            of: Expression::read(reader, item.get("of"))?,
            required: item.get("required").kind == Kind::True,
            digest: item.get("digest").items().map(|path| reader.place(path)).collect::<Result<_, _>>()?,
        })
    };
    list.items().map(read).collect()
}

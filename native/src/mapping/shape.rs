//! The paths a mapping names, as a tree: one pass over an event's text finds the values of all of them.

use super::json::{Kind, Value, blanks, unquoted, value};

/// A place in the tree; the root is 0.
pub type Node = u32;

#[derive(Debug, Default)]
struct Branch {
    /// Children by key.
    keys: Vec<(Box<str>, Node)>,
    /// Children by place in a list, 0 = none: the first item and the last.
    first: Node,
    last: Node,
    parent: Node,
    /// Its key, quoted.
    name: Box<str>,
    /// Whether members that no path names are collected.
    closed: bool,
    /// Whether the value itself is asked for, so that its members are not all there is to it.
    bag: bool,
    /// Whether its members become entries of a map.
    map: bool,
}

#[derive(Debug)]
pub struct Shape {
    branches: Vec<Branch>,
}

/// A member that no path names. With an empty `name`: the object had no member at all.
#[derive(Clone, Copy, Debug)]
pub struct Stray<'a> {
    pub node: Node,
    /// The key as it stands, quotes included.
    pub name: &'a str,
    pub value: Value<'a>,
}

/// What one event holds at each place.
#[derive(Debug, Default)]
pub struct Found<'a> {
    pub values: Vec<Value<'a>>,
    pub strays: Vec<Stray<'a>>,
    /// Whether a key may begin with `$`.
    pub dollars: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { branches: vec![Branch::default()] }
    }
}

impl Shape {
    /// The place of a path such as `context.page.url`, `exceptions[0].name`, `entries[-1]` or `a."b.c"`; made where it
    /// is new. The empty path is the root.
    pub fn place(&mut self, path: &str) -> Option<Node> {
        let (mut node, mut rest) = (0, path);
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("[0]") {
                (node, rest) = (self.item(node, true), after);
            } else if let Some(after) = rest.strip_prefix("[-1]") {
                (node, rest) = (self.item(node, false), after);
            } else {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let (name, after) = match rest.strip_prefix('"') {
                    Some(quoted) => quoted.split_once('"')?,
                    None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
                };
                if name.is_empty() {
                    return None;
                }
                (node, rest) = (self.member(node, name), after);
            }
        }
        Some(node)
    }

    fn grow(&mut self, parent: Node, name: &str) -> Node {
        let mut quoted = Vec::new();
        crate::decode::any_value::json_text(&mut quoted, name.as_bytes());
        let name = String::from_utf8(quoted).expect("quoted text is text").into();
        self.branches.push(Branch { parent, name, ..Branch::default() });
        self.branches.len() as Node - 1
    }

    fn item(&mut self, node: Node, first: bool) -> Node {
        let branch = &self.branches[node as usize];
        let known = if first { branch.first } else { branch.last };
        if known != 0 {
            return known;
        }
        let made = self.grow(node, if first { "0" } else { "-1" });
        let branch = &mut self.branches[node as usize];
        *(if first { &mut branch.first } else { &mut branch.last }) = made;
        made
    }

    fn member(&mut self, node: Node, name: &str) -> Node {
        if let Some(child) = self.child(node, name) {
            return child;
        }
        let made = self.grow(node, name);
        self.branches[node as usize].keys.push((name.into(), made));
        made
    }

    fn child(&self, node: Node, name: &str) -> Option<Node> {
        self.branches[node as usize].keys.iter().find(|(key, _)| **key == *name).map(|(_, child)| *child)
    }

    /// Says that this value lives as a whole somewhere.
    pub fn set_bag(&mut self, node: Node) {
        self.branches[node as usize].bag = true;
    }

    /// Says that this object's members become entries of a map.
    pub fn set_map(&mut self, node: Node) {
        self.branches[node as usize].map = true;
    }

    /// Collects from now on what no path names, in every object that does not live as a whole. `also`: bags that do
    /// not, because named members are taken out of them.
    pub fn close(&mut self, also: &[Node]) {
        for node in 0..self.branches.len() {
            let within = self.ancestors(node as Node).any(|a| self.branches[a as usize].bag && !also.contains(&a));
            let branch = &mut self.branches[node];
            let open = within || branch.first != 0 || branch.last != 0;
            let lifted = also.contains(&(node as Node));
            branch.closed = !open && (lifted || branch.map || !branch.bag && (node == 0 || !branch.keys.is_empty()));
        }
    }

    fn ancestors(&self, node: Node) -> impl Iterator<Item = Node> {
        let step = |node: Node| (node != 0).then(|| self.branches[node as usize].parent);
        std::iter::successors(step(node), move |node| step(*node))
    }

    pub fn len(&self) -> usize {
        self.branches.len()
    }

    pub fn has_members(&self, node: Node) -> bool {
        !self.branches[node as usize].keys.is_empty()
    }

    pub fn is_closed(&self, node: Node) -> bool {
        self.branches[node as usize].closed
    }

    pub fn is_map(&self, node: Node) -> bool {
        self.branches[node as usize].map
    }

    /// The places of an object's named members and their quoted keys.
    pub fn children(&self, node: Node) -> impl Iterator<Item = (Node, &str)> {
        self.branches[node as usize].keys.iter().map(|(_, child)| (*child, &*self.branches[*child as usize].name))
    }

    /// Finds what the checked text of one event holds; `found` is emptied first.
    pub fn find<'a>(&self, text: &'a str, found: &mut Found<'a>) {
        found.values.clear();
        found.values.resize(self.branches.len(), Value::default());
        found.strays.clear();
        found.dollars = false;
        self.visit(0, text, blanks(text.as_bytes(), 0), found);
    }

    /// Takes the value at `at`; where it ends.
    fn visit<'a>(&self, node: Node, text: &'a str, at: usize, found: &mut Found<'a>) -> usize {
        let branch = &self.branches[node as usize];
        if found.values[node as usize].kind != Kind::Missing {
            self.forget(node, found);
        }
        let kind = match text.as_bytes()[at] {
            b'{' if branch.closed || !branch.keys.is_empty() => Kind::Object,
            b'[' if branch.first != 0 || branch.last != 0 => Kind::List,
            _ => {
                let value = value(text, at);
                found.values[node as usize] = value;
                return at + value.raw.len();
            }
        };
        let end = match kind {
            Kind::Object => self.object(node, text, at, found),
            _ => self.list(branch, text, at, found),
        };
        found.values[node as usize] = Value { kind, raw: &text[at..end] };
        end
    }

    fn object<'a>(&self, node: Node, text: &'a str, at: usize, found: &mut Found<'a>) -> usize {
        let (bytes, branch) = (text.as_bytes(), &self.branches[node as usize]);
        let mut at = blanks(bytes, at + 1);
        if bytes[at] == b'}' {
            if branch.closed && !branch.map && !branch.bag && node != 0 {
                found.strays.push(Stray { node, name: "", value: Value::default() });
            }
            return at + 1;
        }
        loop {
            let end = super::json::skip(bytes, at);
            let name = &text[at..end];
            let start = blanks(bytes, blanks(bytes, end) + 1);
            let child = self.named(branch, name);
            at = match child {
                Some(child) if !self.is_odd(child, bytes[start]) => {
                    if self.branches[child as usize].closed {
                        found.strays.retain(|stray| stray.node != node || stray.name != name);
                    }
                    self.visit(child, text, start, found)
                }
                _ => {
                    if let Some(child) = child {
                        self.forget(child, found);
                    }
                    let value = value(text, start);
                    if let Some(child) = child {
                        found.values[child as usize] = value;
                    }
                    found.dollars |= name.as_bytes()[1] == b'$' || name.contains('\\');
                    if branch.closed {
                        found.strays.push(Stray { node, name, value });
                    }
                    start + value.raw.len()
                }
            };
            at = blanks(bytes, at);
            if bytes[at] == b'}' {
                return at + 1;
            }
            at = blanks(bytes, at + 1);
        }
    }

    /// Whether a value is no object where only an object's members have homes.
    fn is_odd(&self, node: Node, first: u8) -> bool {
        let branch = &self.branches[node as usize];
        branch.closed && !branch.bag && !branch.map && first != b'{'
    }

    fn named(&self, branch: &Branch, name: &str) -> Option<Node> {
        let plain = &name[1..name.len() - 1];
        let find = |name: &str| branch.keys.iter().find(|(key, _)| **key == *name).map(|(_, child)| *child);
        match find(plain) {
            None if plain.contains('\\') => find(&unquoted(name).0),
            found => found,
        }
    }

    fn list<'a>(&self, branch: &Branch, text: &'a str, at: usize, found: &mut Found<'a>) -> usize {
        let bytes = text.as_bytes();
        let (mut at, mut number) = (blanks(bytes, at + 1), 0);
        while bytes[at] != b']' {
            let mut end = at;
            if branch.first != 0 && number == 0 {
                end = self.visit(branch.first, text, at, found);
            }
            if branch.last != 0 {
                end = self.visit(branch.last, text, at, found);
            }
            if end == at {
                end = super::json::skip(bytes, at);
            }
            number += 1;
            at = blanks(bytes, end);
            if bytes[at] == b',' {
                at = blanks(bytes, at + 1);
            }
        }
        at + 1
    }

    /// A key that comes again replaces what it said before, its members' values too.
    fn forget(&self, node: Node, found: &mut Found) {
        found.values[node as usize] = Value::default();
        found.strays.retain(|stray| stray.node != node);
        let branch = &self.branches[node as usize];
        for child in branch.keys.iter().map(|(_, child)| *child).chain([branch.first, branch.last]) {
            if child != 0 {
                self.forget(child, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(paths: &[&str], bags: &[&str]) -> Shape {
        let mut shape = Shape::default();
        for path in paths {
            shape.place(path).unwrap();
        }
        for path in bags {
            let node = shape.place(path).unwrap();
            shape.set_bag(node);
        }
        shape.close(&[]);
        shape
    }

    fn at<'a>(shape: &mut Shape, path: &str, found: &Found<'a>) -> &'a str {
        found.values[shape.place(path).unwrap() as usize].raw
    }

    #[test]
    fn values_are_found_in_one_pass() {
        let mut shape = shape(&["a.b", "list[0].x", "list[-1].x", "c", r#"d."e.f""#], &["bag", "bag.in"]);
        let text = r#" {"c": null, "bag":{"in":1,"other":[{}]}, "a": {"z": 1, "b": "t"}, "list": [{"x":1},{"x":2},{"x":3}],
            "d": {"e.f": true}, "unknown": [1]} "#;
        let mut found = Found::default();
        shape.find(text, &mut found);
        for (path, raw) in [
            ("a.b", "\"t\""),
            ("list[0].x", "1"),
            ("list[-1].x", "3"),
            ("c", "null"),
            (r#"d."e.f""#, "true"),
            ("bag.in", "1"),
            ("bag", r#"{"in":1,"other":[{}]}"#),
        ] {
            assert_eq!(at(&mut shape, path, &found), raw, "{path}");
        }
        let strays: Vec<_> = found.strays.iter().map(|stray| (stray.name, stray.value.raw)).collect();
        assert_eq!(strays, [("\"z\"", "1"), ("\"unknown\"", "[1]")]);
    }

    #[test]
    fn a_repeated_key_replaces_all_it_said() {
        let mut shape = shape(&["a.b", "a.c"], &[]);
        let mut found = Found::default();
        shape.find(r#"{"a":{"b":1,"z":2},"a":{"c":3}}"#, &mut found);
        assert_eq!(at(&mut shape, "a.b", &found), "");
        assert_eq!(at(&mut shape, "a.c", &found), "3");
        assert!(found.strays.is_empty());
        shape.find(r#"{"\u0061":{"\u0062":1}}"#, &mut found);
        assert_eq!(at(&mut shape, "a.b", &found), "1");
    }

    #[test]
    fn what_is_no_object_where_one_is_due_is_a_stray() {
        let mut shape = shape(&["a.b"], &[]);
        let mut found = Found::default();
        for (text, name) in [(r#"{"a":7}"#, "\"a\""), (r#"{"a":{}}"#, ""), (r#"{"a":null}"#, "\"a\"")] {
            shape.find(text, &mut found);
            assert_eq!(found.strays[0].name, name);
            assert_eq!(at(&mut shape, "a.b", &found), "");
        }
    }
}

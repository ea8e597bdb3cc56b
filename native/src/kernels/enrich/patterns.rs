//! Many patterns at once.

use regex::bytes::{Regex, RegexBuilder};

/// Bytes of the compiled machine, and of the states that it remembers: a list of 1,500 crawlers needs a good part of it.
const MACHINE_MAX_BYTES: usize = 64 << 20;

/// Texts that match any pattern of a list.
pub struct Patterns(Regex);

impl Patterns {
    /// Fails with what is wrong with a pattern.
    pub fn of(patterns: &[String]) -> Result<Patterns, String> {
        let any = patterns.iter().map(|pattern| format!("(?:{pattern})")).collect::<Vec<_>>().join("|");
        let mut builder = RegexBuilder::new(&any);
        builder.size_limit(MACHINE_MAX_BYTES).dfa_size_limit(MACHINE_MAX_BYTES).unicode(false);
        // An empty list matches nothing; an empty expression would match everything.
        let built = if patterns.is_empty() { Regex::new("[^\\s\\S]") } else { builder.build() };
        built.map(Patterns).map_err(|error| error.to_string())
    }

    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_matches_where_any_pattern_does() {
        let patterns = Patterns::of(&["Googlebot\\/".to_owned(), "^curl".to_owned()]).unwrap();
        assert!(patterns.matches("Mozilla/5.0 (compatible; Googlebot/2.1)"));
        assert!(patterns.matches("curl/8"));
        assert!(!patterns.matches("a curl"));
        assert!(!Patterns::of(&[]).unwrap().matches(""));
        assert!(Patterns::of(&["(".to_owned()]).is_err());
    }
}

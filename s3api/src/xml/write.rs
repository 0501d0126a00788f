//! Writes XML documents.
//!
//! Characters that XML 1.0 cannot carry (most control characters, U+FFFE, U+FFFF) are written as U+FFFD. S3 itself
//! writes them as numeric references, which the specification forbids and strict parsers (expat, Go's) answer by
//! refusing the whole document: one hostile key would hide a whole page of a listing. Keys with such characters are
//! exact under `encoding-type=url`, which is what S3 offers it for.

use super::S3_NAMESPACE;
use std::fmt::{self, Display, Write};

/// A document that grows by one element after the other. Names are literals of the program, so they are not escaped.
#[derive(Debug)]
pub struct XmlWriter {
    out: String,
    open: Vec<&'static str>,
}

impl XmlWriter {
    /// Starts a document with the root element in S3's namespace.
    pub fn new(root: &'static str) -> Self {
        let mut xml = Self::start();
        xml.open_with(root, &[("xmlns", S3_NAMESPACE)]);
        xml
    }

    /// Starts a document with a root element outside any namespace.
    pub fn without_namespace(root: &'static str) -> Self {
        let mut xml = Self::start();
        xml.open(root);
        xml
    }

    fn start() -> Self {
        let mut out = String::with_capacity(512);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        Self { out, open: Vec::with_capacity(4) }
    }

    pub fn open(&mut self, name: &'static str) -> &mut Self {
        self.open_with(name, &[])
    }

    /// Opens an element with attributes.
    pub fn open_with(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) -> &mut Self {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
        self.open.push(name);
        self
    }

    /// Closes the element that was opened last.
    pub fn close(&mut self) -> &mut Self {
        let name = self.open.pop().expect("every close has its open");
        self.end(name);
        self
    }

    /// An element with text.
    pub fn element(&mut self, name: &'static str, text: impl Display) -> &mut Self {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
        write!(Escaped(&mut self.out), "{text}").expect("writing to a String does not fail");
        self.end(name);
        self
    }

    /// An element with text, or nothing.
    pub fn optional(&mut self, name: &'static str, text: Option<impl Display>) -> &mut Self {
        match text {
            Some(text) => self.element(name, text),
            None => self,
        }
    }

    /// Bytes written so far.
    pub fn len_bytes(&self) -> usize {
        self.out.len()
    }

    /// Closes what is open, the root included.
    pub fn finish(mut self) -> Vec<u8> {
        while let Some(name) = self.open.pop() {
            self.end(name);
        }
        self.out.into_bytes()
    }

    fn end(&mut self, name: &'static str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Tabs and line ends are written as references, or a parser would normalise them (in attributes all, in text `\r`).
fn escape(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let replacement = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&apos;",
            '\t' => "&#x9;",
            '\n' => "&#xA;",
            '\r' => "&#xD;",
            c if is_xml_char(c) => continue,
            _ => "\u{FFFD}",
        };
        out.push_str(&text[plain..at]);
        out.push_str(replacement);
        plain = at + c.len_utf8();
    }
    out.push_str(&text[plain..]);
}

/// `Char` of XML 1.0 (<https://www.w3.org/TR/xml/#charsets>).
pub(super) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Limits, parse},
        *,
    };
    use proptest::prelude::*;

    #[test]
    fn documents_are_in_the_s3_namespace() {
        let mut xml = XmlWriter::new("ListBucketResult");
        xml.element("KeyCount", 2)
            .open("Contents")
            .element("Key", "a")
            .close()
            .optional("Marker", None::<&str>);
        assert_eq!(
            String::from_utf8(xml.finish()).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><KeyCount>2</KeyCount>\
             <Contents><Key>a</Key></Contents></ListBucketResult>"
        );
    }

    #[test]
    fn attributes_are_escaped() {
        let mut xml = XmlWriter::without_namespace("A");
        xml.open_with("G", &[("xsi:type", "a\"b\n")]);
        assert!(
            String::from_utf8(xml.finish()).unwrap().ends_with("<A><G xsi:type=\"a&quot;b&#xA;\"></G></A>")
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(texts in proptest::collection::vec(".{0,40}|[\\x00-\\x20<>&'\"\\]]{0,12}", 0..5)) {
            let mut xml = XmlWriter::new("Root");
            for text in &texts {
                xml.element("Key", text);
            }
            let root = parse(&xml.finish(), &Limits::default()).unwrap();
            let read: Vec<&str> = root.children("Key").map(|key| key.text()).collect();
            let shown: Vec<String> =
                texts.iter().map(|text| text.replace(|c| !is_xml_char(c), "\u{FFFD}")).collect();
            prop_assert_eq!(read, shown);
        }
    }
}

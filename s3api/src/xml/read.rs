//! Reads XML documents of clients into a small tree.
//!
//! Names are local names: the prefix and the namespace are dropped, as S3 accepts documents with any or none.
//! Unknown elements are kept and cost nothing but their bytes. No document type, no entities but the five predefined
//! ones and numeric references, so a document's memory is bounded by its length.

use super::write::is_xml_char;
use crate::error::{ErrorCode, S3Error};
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
    name::QName,
};

/// Bounds of one document.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub len_bytes_max: usize,
    /// Nesting, the root included.
    pub depth_max: usize,
    pub elements_max: usize,
}

impl Default for Limits {
    /// The longest documents are CompleteMultipartUpload (10,000 parts of up to 9 elements) and DeleteObjects.
    fn default() -> Self {
        Self { len_bytes_max: 2 << 20, depth_max: 16, elements_max: 100_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    #[error("the document is longer than allowed")]
    TooLong,
    #[error("the document is nested deeper, or has more elements, than allowed")]
    TooComplex,
    #[error("the document is not well-formed: {0}")]
    Malformed(&'static str),
}

impl From<XmlError> for S3Error {
    fn from(error: XmlError) -> Self {
        match error {
            XmlError::TooLong => Self::new(ErrorCode::MaxMessageLengthExceeded),
            XmlError::TooComplex | XmlError::Malformed(_) => Self::new(ErrorCode::MalformedXML),
        }
    }
}

/// An element of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    name: Box<str>,
    attributes: Vec<(Box<str>, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element's own characters, exactly: spaces around an object key belong to the key.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Without white space around it: for words and numbers, which pretty-printed documents may surround with it.
    pub fn trimmed(&self) -> &str {
        self.text.trim_ascii()
    }

    /// By local name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.as_str())
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| *child.name == *name)
    }

    /// All children of this name, in order.
    pub fn children(&self, name: &str) -> impl Iterator<Item = &Element> {
        self.children.iter().filter(move |child| *child.name == *name)
    }

    /// All children, in order.
    pub fn elements(&self) -> &[Element] {
        &self.children
    }

    /// [`Self::text`] of the first child of this name.
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(Element::text)
    }
}

/// Reads a whole document.
pub fn parse(document: &[u8], limits: &Limits) -> Result<Element, XmlError> {
    if document.len() > limits.len_bytes_max {
        return Err(XmlError::TooLong);
    }
    let document = std::str::from_utf8(document).map_err(|_| XmlError::Malformed("not UTF-8"))?;
    let document = document.strip_prefix('\u{FEFF}').unwrap_or(document);
    if !document.chars().all(is_xml_char) {
        return Err(XmlError::Malformed("a character that XML does not allow"));
    }
    let mut reader = Reader::from_str(document);
    reader.config_mut().enable_all_checks(true);
    let mut tree = Tree { limits, open: Vec::new(), root: None, elements: 0 };
    loop {
        match reader.read_event().map_err(|_| XmlError::Malformed("markup"))? {
            Event::Start(tag) => tree.start(&tag)?,
            Event::End(_) => tree.end()?,
            Event::Empty(tag) => {
                tree.start(&tag)?;
                tree.end()?;
            }
            Event::Text(text) => {
                tree.text(&text.xml10_content().map_err(|_| XmlError::Malformed("text"))?)?
            }
            Event::CData(text) => {
                tree.cdata(&text.xml10_content().map_err(|_| XmlError::Malformed("CDATA"))?)?;
            }
            Event::GeneralRef(reference) => tree.cdata(resolve(&reference)?.encode_utf8(&mut [0; 4]))?,
            Event::Decl(declaration) => {
                let utf8 = match declaration.encoding() {
                    None => true,
                    Some(Ok(name)) => {
                        name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"us-ascii")
                    }
                    Some(Err(_)) => false,
                };
                if !utf8 || tree.root.is_some() || !tree.open.is_empty() {
                    return Err(XmlError::Malformed("declaration"));
                }
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err(XmlError::Malformed("a document type is not allowed")),
            Event::Eof => break,
        }
    }
    match tree {
        Tree { open, root: Some(root), .. } if open.is_empty() => Ok(root),
        _ => Err(XmlError::Malformed("the document ends early")),
    }
}

struct Tree<'a> {
    limits: &'a Limits,
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Tree<'_> {
    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), XmlError> {
        if self.root.is_some() {
            return Err(XmlError::Malformed("a second root"));
        }
        self.elements += 1;
        if self.open.len() >= self.limits.depth_max || self.elements > self.limits.elements_max {
            return Err(XmlError::TooComplex);
        }
        let mut element = Element { name: local_name(tag.name())?, ..Element::default() };
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_| XmlError::Malformed("attribute"))?;
            if attribute.value.contains(&b'<') {
                return Err(XmlError::Malformed("attribute value"));
            }
            let name = local_name(attribute.key)?;
            let value = attribute
                .normalized_value(XmlVersion::Explicit1_0)
                .map_err(|_| XmlError::Malformed("attribute value"))?
                .into_owned();
            if attribute.key.prefix().is_none_or(|prefix| !prefix.is_xmlns()) && *name != *"xmlns" {
                element.attributes.push((name, value));
            }
        }
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self) -> Result<(), XmlError> {
        let element = self.open.pop().ok_or(XmlError::Malformed("an end without a start"))?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        match self.open.last_mut() {
            Some(_) if text.contains("]]>") => Err(XmlError::Malformed("an end of CDATA without its start")),
            Some(element) => {
                element.text.push_str(text);
                Ok(())
            }
            None if text.trim_ascii().is_empty() => Ok(()),
            None => Err(XmlError::Malformed("text outside the root")),
        }
    }

    fn cdata(&mut self, text: &str) -> Result<(), XmlError> {
        let element = self.open.last_mut().ok_or(XmlError::Malformed("text outside the root"))?;
        element.text.push_str(text);
        Ok(())
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, XmlError> {
    let malformed = XmlError::Malformed("reference");
    match reference.resolve_char_ref().map_err(|_| malformed)? {
        Some(c) if is_xml_char(c) => Ok(c),
        Some(_) => Err(malformed),
        None => match reference.as_ref() {
            b"amp" => Ok('&'),
            b"lt" => Ok('<'),
            b"gt" => Ok('>'),
            b"quot" => Ok('"'),
            b"apos" => Ok('\''),
            _ => Err(malformed),
        },
    }
}

fn local_name(name: QName<'_>) -> Result<Box<str>, XmlError> {
    let malformed = XmlError::Malformed("name");
    // quick-xml takes everything up to white space for a name.
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(byte) || !byte.is_ascii();
    if !name.as_ref().iter().all(legal) {
        return Err(malformed);
    }
    let local = std::str::from_utf8(name.local_name().into_inner()).map_err(|_| malformed)?;
    if local.is_empty()
        || local.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.')
        || local.contains(':')
    {
        return Err(malformed);
    }
    Ok(local.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(document: &str) -> Result<Element, XmlError> {
        parse(document.as_bytes(), &Limits::default())
    }

    #[test]
    fn names_are_local_and_unknown_elements_are_kept() {
        let root = read(
            "\u{FEFF}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- c --><s:Delete xmlns:s=\"x\" xmlns=\"y\">\n\
             <s:Object><Key>a</Key><Unknown><Deep/></Unknown></s:Object><Object><Key>b</Key></Object></s:Delete>\n",
        )
        .unwrap();
        assert_eq!(root.name(), "Delete");
        let keys: Vec<_> = root.children("Object").map(|object| object.child_text("Key").unwrap()).collect();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(root.attribute("xmlns"), None);
        assert_eq!(root.elements().len(), 2);
    }

    #[test]
    fn text_joins_cdata_and_references_and_keeps_spaces() {
        let root =
            read("<Key> a<![CDATA[<&]]>&#x41;&#66;&lt;&gt;&amp;&quot;&apos;<!-- x -->\r\nb </Key>").unwrap();
        assert_eq!(root.text(), " a<&AB<>&\"'\nb ");
        assert_eq!(read("<Status>\n  Enabled\n</Status>").unwrap().trimmed(), "Enabled");
    }

    #[test]
    fn attributes_have_local_names() {
        let root = read("<Grantee xmlns:xsi=\"http://x\" xsi:type=\"Canonical&amp;User\"/>").unwrap();
        assert_eq!(root.attribute("type"), Some("Canonical&User"));
        assert_eq!(root.attribute("xsi"), None);
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for document in [
            "",
            " ",
            "text",
            "<a>",
            "<a></b>",
            "<a></a></a>",
            "<a/><b/>",
            "<a/>text",
            "<a/>&amp;",
            "<a/><![CDATA[x]]>",
            "<a>&unknown;</a>",
            "<a>&</a>",
            "<a>&#0;</a>",
            "<a>&#1;</a>",
            "<a>&#xD800;</a>",
            "<a>&#x110000;</a>",
            "<a>\u{1}</a>",
            "<a>]]></a>",
            "<a b=\"1\" b=\"2\"/>",
            "<a b=1/>",
            "<a b=\"<\"/>",
            "<a b=\"&x;\"/>",
            "<1/>",
            "<a<b/>",
            "<a:/>",
            "< a/>",
            "<a><!-- -- --></a>",
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>",
            "<a/><?xml version=\"1.0\"?>",
        ] {
            assert!(
                matches!(read(document), Err(XmlError::Malformed(_))),
                "{document}: {:?}",
                read(document)
            );
        }
        assert!(matches!(parse(b"<a>\xFF</a>", &Limits::default()), Err(XmlError::Malformed(_))));
    }

    #[test]
    fn limits_hold_exactly() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(read(&nested(16)).is_ok());
        assert_eq!(read(&nested(17)), Err(XmlError::TooComplex));
        let limits = Limits { len_bytes_max: 4, ..Limits::default() };
        assert!(parse(b"<a/>", &limits).is_ok());
        assert_eq!(parse(b"<ab/>", &limits), Err(XmlError::TooLong));
        let limits = Limits { elements_max: 2, ..Limits::default() };
        assert!(parse(b"<a><b/></a>", &limits).is_ok());
        assert_eq!(parse(b"<a><b/><b/></a>", &limits), Err(XmlError::TooComplex));
    }

    #[test]
    fn refusals_are_s3_errors() {
        assert_eq!(S3Error::from(XmlError::Malformed("x")).code, ErrorCode::MalformedXML);
        assert_eq!(S3Error::from(XmlError::TooLong).code, ErrorCode::MaxMessageLengthExceeded);
    }

    #[test]
    fn every_truncation_of_a_document_is_refused() {
        let document = "<Delete a=\"b\"><Object><Key>a&amp;<![CDATA[b]]></Key></Object><!-- c --></Delete>";
        assert!(read(document).is_ok());
        for end in 0..document.len() {
            assert!(read(&document[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_reader_down(document in "(<|>|/|a|b|=|\"|'|&|;|#|x|1| |!|-|\\[|\\]|CDATA|\\?|xml|:|é){0,40}") {
            let _ = read(&document);
        }
    }
}

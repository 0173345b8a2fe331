//! Rectangles, arrows and lines of text as SVG. Texts are escaped, and cut where they do not fit.

use std::fmt::{Display, Write};

/// Mean width of a character at 13 pixels; what is a little longer still fits beside its neighbour.
const CHARACTER: u32 = 7;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1c2430}.title{font-size:18px;font-weight:600}\
.note{fill:#4a5563}.strong{font-weight:600}.small{font-size:12px}.muted{fill:#6b7684}\
.lane,.slice{stroke:#3a4656;stroke-width:1}.fill{stroke:none}.gpu{stroke:#9aa5b1;stroke-dasharray:3 3}\
path{stroke:#3a4656;stroke-width:2;fill:none}";

#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// A picture under construction, from top to bottom.
#[derive(Debug)]
pub(super) struct Drawing {
    width: u32,
    margin: u32,
    body: String,
    /// Where the next block begins.
    pub(super) y: u32,
}

impl Drawing {
    pub(super) fn new(width: u32, margin: u32) -> Self {
        Self {
            width,
            margin,
            body: String::new(),
            y: 0,
        }
    }

    pub(super) fn text(&mut self, x: u32, y: u32, class: &str, text: &str) {
        self.text_within(x, y, self.width - self.margin - x, class, text);
    }

    /// A text of at most `room` pixels.
    pub(super) fn text_within(&mut self, x: u32, y: u32, room: u32, class: &str, text: &str) {
        let most = (room / CHARACTER) as usize;
        let mut shown: String = text.chars().take(most).collect();
        if shown.len() < text.len() {
            shown.pop();
            shown.push('…');
        }
        self.push(format_args!(
            "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>",
            Escaped(&shown)
        ));
    }

    /// Lines of text over the whole width, below what is there.
    pub(super) fn paragraph(&mut self, text: &str) {
        let most = ((self.width - 2 * self.margin) / CHARACTER) as usize;
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let line = lines.last_mut().expect("it begins with a line");
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > most {
                lines.push(word.to_owned());
            } else {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
        for line in lines {
            self.y += 20;
            self.text(self.margin, self.y, "note", &line);
        }
    }

    pub(super) fn rect(&mut self, frame: Frame, fill: &str, class: &str) {
        let Frame { x, y, width, height } = frame;
        self.push(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" class=\"{class}\"/>"
        ));
    }

    /// From left to right.
    pub(super) fn arrow(&mut self, from: u32, to: u32, y: u32) {
        let (back, up, down) = (to - 5, y - 4, y + 4);
        self.push(format_args!(
            "<path d=\"M{from} {y}H{to}M{back} {up}L{to} {y}L{back} {down}\"/>"
        ));
    }

    /// What follows belongs together and has a title, which viewers show under the pointer.
    pub(super) fn open_group(&mut self, title: &str) {
        self.push(format_args!("<g><title>{}</title>", Escaped(title)));
    }

    pub(super) fn close_group(&mut self) {
        self.push(format_args!("</g>"));
    }

    /// The whole document.
    pub(super) fn finish(self, title: &str) -> String {
        let (width, height) = (self.width, self.y + self.margin);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}</svg>\n",
            Escaped(title),
            self.body
        )
    }

    fn push(&mut self, element: impl Display) {
        writeln!(self.body, "{element}").expect("writing to a string does not fail");
    }
}

/// A text that is no markup, whatever it says.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                // XML has no control characters.
                _ if character.is_control() => f.write_char('\u{fffd}')?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

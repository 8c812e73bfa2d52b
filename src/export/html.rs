//! A report as one self-contained HTML page: nothing is fetched, and it reads the same when printed.

use std::fmt::Write;

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Of the window and above everything.
    pub title: String,
    /// The sentence under the title.
    pub lead: String,
    /// From top to bottom.
    pub sections: Vec<Section>,
}

/// A part of a page under a heading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// From top to bottom.
    pub parts: Vec<Part>,
}

/// What stands on a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A paragraph.
    Text(String),
    /// Something to be careful about.
    Caution(String),
    /// Rows under a head.
    Table {
        /// So many of the first columns are words, the others numbers.
        words: usize,
        /// Names of the columns.
        head: Vec<String>,
        /// As long as the head, each.
        rows: Vec<Vec<String>>,
    },
    /// A picture as SVG, put in as it is: it must come from this program.
    Chart(String),
    /// Text whose lines and spaces matter.
    Code(String),
}

/// System fonts alone, two columns of charts where there is room, black on white on paper.
const STYLE: &str = "\
:root{color-scheme:light}\
body{font:15px/1.5 Inter,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;color:#252931;background:#fff;max-width:60rem;\
margin:2.5rem auto;padding:0 1.25rem}\
h1{font-size:1.7rem;line-height:1.2;color:#0c0e12;margin:0}\
h2{font-size:1.15rem;color:#0c0e12;margin:2.2rem 0 .6rem;padding-top:.8rem;border-top:1px solid #dde0e6}\
.lead{color:#5a6270;margin:.4rem 0 0}\
p{margin:.5rem 0;max-width:46rem}\
.caution{border-left:3px solid #a84900;padding-left:.7rem}\
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums;width:100%}\
th,td{padding:.25rem .7rem;border-bottom:1px solid #dde0e6;text-align:right;vertical-align:top;white-space:nowrap}\
th{color:#5a6270;font-weight:600;white-space:normal;vertical-align:bottom}\
.w{text-align:left;white-space:normal;overflow-wrap:break-word}\
th:first-child,td:first-child{padding-left:0;white-space:nowrap}.w:last-child{width:100%}th:last-child,td:last-child{padding-right:0}\
svg{max-width:100%;height:auto;display:block;margin:.4rem 0}\
pre{font:13px/1.45 ui-monospace,'JetBrains Mono',Menlo,Consolas,monospace;background:#f7f8fa;padding:.8rem 1rem;\
overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}\
@media print{body{margin:0;max-width:none;font-size:10pt}table{font-size:8.5pt}th,td{padding:.15rem .5rem}\
h2{break-after:avoid}tr,svg,.caution{break-inside:avoid}\
thead{display:table-header-group}pre{background:none;border:1px solid #dde0e6;font-size:8.5pt}}";

/// The page as HTML. Every word of it is escaped, so that no name can become markup.
pub fn html(page: &Page) -> String {
    let title = escape(&page.title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n<p class=\"lead\">{}</p>\n",
        escape(&page.lead)
    );
    for section in &page.sections {
        // Writing to a string does not fail.
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escape(&section.heading));
        section.parts.iter().for_each(|part| part_html(&mut out, part));
        out.push_str("</section>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn part_html(out: &mut String, part: &Part) {
    let cells = |tag: &str, words: usize, row: &[String]| {
        let cell = |(column, cell): (usize, &String)| {
            let class = if column < words { " class=\"w\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escape(cell))
        };
        row.iter().enumerate().map(cell).collect::<String>()
    };
    let _ = match part {
        Part::Text(text) => writeln!(out, "<p>{}</p>", escape(text)),
        Part::Caution(text) => writeln!(out, "<p class=\"caution\">{}</p>", escape(text)),
        Part::Code(text) => writeln!(out, "<pre>{}</pre>", escape(text)),
        Part::Chart(svg) => writeln!(out, "{svg}"),
        Part::Table { words, head, rows } => {
            let body: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", *words, row))).collect();
            let head = match head.iter().all(String::is_empty) {
                true => String::new(),
                false => format!("<thead><tr>{}</tr></thead>\n", cells("th", *words, head)),
            };
            writeln!(out, "<table>\n{head}<tbody>\n{body}</tbody>\n</table>")
        }
    };
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_escapes_words_and_asks_for_nothing() {
        let evil = "<script src=\"http://example.org\">&";
        let parts = vec![
            Part::Text(evil.to_owned()),
            Part::Caution(evil.to_owned()),
            Part::Code(evil.to_owned()),
            Part::Table { words: 1, head: vec![evil.to_owned()], rows: vec![vec![evil.to_owned()]] },
            Part::Chart("<svg></svg>".to_owned()),
        ];
        let section = Section { heading: evil.to_owned(), parts };
        let page = Page { title: evil.to_owned(), lead: evil.to_owned(), sections: vec![section] };
        let html = html(&page);
        assert!(!html.contains("<script") && html.contains("&lt;script") && html.contains("<svg></svg>"), "{html}");
        for asks in ["src=\"", "href=", "url(", "@import"] {
            assert!(!html.contains(asks), "{asks}: {html}");
        }
        assert!(html.contains("@media print"));
    }
}

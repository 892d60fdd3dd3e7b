//! Pages of a listing (distribution-spec, "Listing Tags"; RFC 8288): which address has the next one.

use std::collections::HashSet;

use http::HeaderMap;
use http::header::LINK;
use url::Url;

use super::locate;

/// The most pages that one listing may have.
pub(crate) const MAX_PAGES: usize = 1000;

/// Walks the pages of one listing, and ends where a registry sends us in circles.
#[derive(Debug)]
pub(crate) struct Pages {
    seen: HashSet<Url>,
}

impl Pages {
    pub(crate) fn starting_at(first: &Url) -> Self {
        Self { seen: HashSet::from([first.clone()]) }
    }

    /// The page after `page`, whose answer had these headers. `None` after the last one; otherwise why the listing
    /// cannot be completed.
    pub(crate) fn after(&mut self, page: &Url, headers: &HeaderMap) -> Result<Option<Url>, String> {
        let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let Some(target) = values.flat_map(next_of).next() else { return Ok(None) };
        let next = locate::follow(page, &target).map_err(|astray| format!("the link to its next page: {astray}"))?;
        if !locate::same_origin(page, &next) {
            return Err(format!("the link to its next page leads to another host, {}", locate::shown(&next)));
        }
        if self.seen.len() >= MAX_PAGES {
            return Err(format!("the listing has more than {MAX_PAGES} pages"));
        }
        if !self.seen.insert(next.clone()) {
            return Err("the link to its next page leads back to a page that was read already".to_owned());
        }
        Ok(Some(next))
    }
}

/// The target of the link with `rel="next"` in one header value.
fn next_of(value: &str) -> Option<String> {
    let mut rest = value;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let end = end_of_link(after);
        if has_rel_next(&after[..end]) {
            return Some(target.trim().to_owned());
        }
        rest = &after[end..];
    }
}

/// Where the parameters of this link end: at a comma outside quotes.
fn end_of_link(parameters: &str) -> usize {
    let mut quoted = false;
    for (at, byte) in parameters.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    parameters.len()
}

fn has_rel_next(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("rel")
            && value.trim().trim_matches('"').split_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(page: &str, link: &str) -> Result<Option<String>, String> {
        let page: Url = page.parse().unwrap();
        let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
        Pages::starting_at(&page).after(&page, &headers).map(|next| next.map(|url| url.to_string()))
    }

    #[test]
    fn the_next_page_is_found_in_every_shape_of_link() {
        let page = "https://h/v2/a/tags/list?n=2";
        let next = Ok(Some("https://h/v2/a/tags/list?last=b&n=2".to_owned()));
        assert_eq!(after(page, r#"</v2/a/tags/list?last=b&n=2>; rel="next""#), next);
        assert_eq!(after(page, "<list?last=b&n=2>;rel=next"), next);
        assert_eq!(after(page, r#"<https://h/v2/a/tags/list?last=b&n=2> ; title="a, b"; REL="prev Next""#), next);
        assert_eq!(after(page, r#"<x>; rel="prev", <list?last=b&n=2>; rel="next""#), next);
        assert_eq!(after(page, r#"<x>; rel="prev""#), Ok(None));
        assert_eq!(after(page, "broken"), Ok(None));
    }

    #[test]
    fn a_listing_that_leads_in_circles_or_elsewhere_is_an_error() {
        let page = "https://h/v2/a/tags/list?n=2";
        assert_eq!(
            after(page, "<?n=2>; rel=next").unwrap_err(),
            "the link to its next page leads back to a page that was read already"
        );
        assert_eq!(
            after(page, "<https://evil/x?token>; rel=next").unwrap_err(),
            "the link to its next page leads to another host, https://evil/x"
        );
        assert_eq!(
            after(page, "<http://h/x>; rel=next").unwrap_err(),
            "the link to its next page: it leads from HTTPS to plain HTTP at http://h/x, which is refused"
        );
    }

    #[test]
    fn a_listing_without_end_is_an_error() {
        let mut page: Url = "https://h/0".parse().unwrap();
        let mut pages = Pages::starting_at(&page);
        for number in 1.. {
            let headers = HeaderMap::from_iter([(LINK, format!("<{number}>; rel=next").parse().unwrap())]);
            match pages.after(&page, &headers) {
                Ok(next) => page = next.unwrap(),
                Err(error) => {
                    assert_eq!((number, error.as_str()), (MAX_PAGES, "the listing has more than 1000 pages"));
                    break;
                }
            }
        }
    }
}

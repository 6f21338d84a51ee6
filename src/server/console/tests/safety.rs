//! A text from a warehouse or a vendor never becomes anything but text: every reachable page is read, tag by tag.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::fixture::HOSTILE_KEYS;
use super::html::{forms, tags};
use super::http::{CSRF, Site};
use super::service::FakeService;

/// Every tag a page may consist of.
const TAGS: &[&str] = &[
    "a",
    "article",
    "b",
    "bdi",
    "body",
    "button",
    "caption",
    "circle",
    "code",
    "dd",
    "del",
    "desc",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "g",
    "h1",
    "h2",
    "h3",
    "head",
    "header",
    "html",
    "input",
    "ins",
    "label",
    "legend",
    "li",
    "line",
    "link",
    "main",
    "meta",
    "nav",
    "ol",
    "option",
    "p",
    "pre",
    "progress",
    "rect",
    "script",
    "section",
    "select",
    "span",
    "strong",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "text",
    "th",
    "thead",
    "time",
    "title",
    "tr",
    "ul",
    "wbr",
];

/// Every page reachable from the overview by links and search boxes, by its path.
async fn reachable(site: &Site) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut seen = BTreeSet::from(["/".to_owned(), "/login?failed=1&next=/runs".to_owned()]);
    let mut left: VecDeque<String> = seen.iter().cloned().collect();
    while let Some(path) = left.pop_front() {
        let page = site.get(&path).await;
        // The fixture's one source that is locked.
        let status = if path == "/syncs/fresh/plan" { 500 } else { 200 };
        assert_eq!(page.status, status, "{path}: {}", page.body);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        for tag in tags(&page.body).into_iter().filter(|tag| tag.name == "a") {
            let href = tag.get("href").expect("a link leads somewhere");
            let target = href.split('#').next().unwrap().to_owned();
            // A run of equal pages is enough of one kind.
            let runs = seen.iter().filter(|known| known.starts_with("/runs/")).count();
            let plenty =
                target.starts_with("/runs/") && runs > 60 || target.contains("acct-0000") && !target.ends_with('7');
            let file = target.starts_with("/rejected.");
            if !target.is_empty() && !plenty && !file && seen.insert(target.clone()) {
                left.push_back(target);
            }
        }
        pages.insert(path, page.body);
    }
    pages
}

#[tokio::test]
async fn no_page_has_anything_that_a_strict_policy_forbids_or_a_reader_misses() {
    let site = Site::open(FakeService::rich().with_problems()).await;
    let pages = reachable(&site).await;
    assert!(pages.len() > 60, "{} pages", pages.len());
    for kind in
        ["/rejected", "/runs?before=", "/syncs/accounts", "/syncs/billing/plan", "/syncs/crm/groups?key=nul%00key"]
    {
        assert!(pages.keys().any(|path| path.starts_with(kind)), "no page like {kind}");
    }
    for (path, html) in &pages {
        let all = tags(html);
        let mut ids = BTreeSet::new();
        for tag in &all {
            assert!(TAGS.contains(&tag.name.as_str()), "{path}: <{}>", tag.name);
            for (name, value) in &tag.attributes {
                assert!(name.chars().all(|char| char.is_ascii_alphanumeric() || char == '-'), "{path}: {name}");
                assert!(name != "style" && !name.starts_with("on"), "{path}: {name} in <{}>", tag.name);
                if matches!(name.as_str(), "href" | "action" | "src") {
                    let icon = tag.get("rel") == Some("icon") && value.starts_with("data:image/svg+xml,");
                    assert!(
                        value.starts_with('/') && !value.starts_with("//") || value.starts_with('#') || icon,
                        "{path}: {value}"
                    );
                }
                if name == "id" {
                    assert!(ids.insert(value.clone()), "{path}: the id {value} twice");
                }
            }
            if tag.name == "script" {
                assert!(tag.get("src").unwrap().starts_with("/assets/console.js?v="), "{path}");
            }
        }
        for tag in &all {
            for name in ["for", "aria-labelledby", "aria-describedby"] {
                for id in tag.get(name).unwrap_or_default().split_whitespace() {
                    assert!(ids.contains(id), "{path}: {name}={id} names nothing");
                }
            }
        }
        for tag in ["main", "h1", "title", "script"] {
            let count = all.iter().filter(|found| found.name == tag).count();
            // Charts have titles of their own.
            assert!(count == 1 || tag == "title" && count >= 1, "{path}: {count} <{tag}>");
        }
        for hidden in ['\0', '\u{202e}', '\u{202c}', '\r'] {
            assert!(!html.contains(hidden), "{path}: {hidden:?}");
        }
        for form in forms(html).iter().filter(|form| form.post) {
            let csrf = form.fields.iter().find(|(name, _)| name == "csrf");
            assert_eq!(csrf.map(|(_, value)| value.as_str()), Some(CSRF), "{path}: {}", form.action);
        }
    }
}

#[tokio::test]
async fn every_button_does_something_and_leads_to_a_page() {
    let pages = reachable(&Site::open(FakeService::rich()).await).await;
    let mut orders = BTreeSet::new();
    for form in pages.values().flat_map(|html| forms(html)).filter(|form| form.post) {
        orders.insert((form.action, form.fields));
    }
    assert!(orders.len() > 20, "{}", orders.len());
    for (action, fields) in orders.iter().filter(|(action, _)| action != "/logout" && action != "/login") {
        // One daemon each, because orders change what the next one finds.
        let site = Site::open(FakeService::rich()).await;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut response = site.post(action, &fields).await;
        if action.ends_with("/retry") {
            if fields.contains(&("of", "selected")) {
                assert_eq!(response.status, 400, "{action}: nothing is selected");
                continue;
            }
            // The page that confirms.
            assert_eq!(response.status, 200, "{action} {fields:?}: {}", response.body);
            let run = forms(&response.body).into_iter().find(|form| form.action.ends_with("/run")).unwrap();
            let fields: Vec<(&str, &str)> =
                run.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            response = site.post(&run.action, &fields).await;
        }
        assert_eq!(response.status, 303, "{action} {fields:?}: {}", response.body);
        assert_eq!(site.service.orders().len(), 1, "{action}");
        let then = site.get(response.header("location").unwrap()).await;
        assert_eq!(then.status, 200, "{action}: {}", then.body);
    }
}

#[tokio::test]
async fn a_group_is_reached_by_its_key_whatever_characters_it_has() {
    let site = Site::open(FakeService::rich()).await;
    for key in HOSTILE_KEYS {
        let page = site.get(&super::super::links::group_path("crm", key)).await;
        assert_eq!(page.status, 200, "{key:?}");
        let again =
            forms(&page.body).into_iter().find(|form| form.post && form.action.contains("/run?group=")).unwrap();
        let fields: Vec<(&str, &str)> =
            again.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(site.post(&again.action, &fields).await.status, 303);
        let wanted = format!("\"group\":{}", serde_json::to_string(key).unwrap());
        assert!(site.service.orders().last().unwrap().contains(&wanted), "{:?}", site.service.orders());
    }
}

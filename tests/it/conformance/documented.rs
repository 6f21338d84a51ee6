//! Does docs/destinations.md tell what the code does? Its tables are made here, from what each destination says of
//! itself and what its requests hold; `UPDATE_DOCS=1 cargo test documented` writes them anew.

use std::fmt::Write as _;

use groupcast::destination::{Destination, Route, UserRule};
use groupcast::model::{OnNull, Op};

use super::contents::dedup_place;
use super::read::Trees;
use super::{Says, Subject, addressed, send};

const BEGIN: &str =
    "<!-- made by `UPDATE_DOCS=1 cargo test --test it documented`; a test compares it with the code -->\n";
const END: &str = "<!-- end of what is made -->\n";

fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn abilities(subjects: &[Subject]) -> String {
    let mut out = "| | set | set once | add | append, prepend | unset | null as a value | delete a group | objects | numbers beyond a double | user |\n".to_owned();
    out.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for subject in subjects {
        let destination = subject.destination();
        let features = destination.features();
        let op = |op: Op| yes(features.ops.contains(&op));
        let lists = match [Op::Append, Op::Prepend].map(|op| features.ops.contains(&op)) {
            [true, false] => "append",
            [false, true] => "prepend",
            [both, _] => yes(both),
        };
        let null = |on_null: OnNull| yes(features.on_null.contains(&on_null));
        let cells = [
            op(Op::Set),
            op(Op::SetOnce),
            op(Op::Add),
            lists,
            null(OnNull::Unset),
            null(OnNull::Null),
            yes(features.delete),
            yes(features.objects),
            if features.exact_numbers { "exact" } else { "refused" },
            match features.user {
                UserRule::Required => "yes",
                UserRule::RequiredKnown => "a known one",
                UserRule::Optional => "may have one",
                UserRule::Never => "no",
            },
        ];
        writeln!(out, "| {} | {} |", subject.row.name, cells.join(" | ")).unwrap();
    }
    out
}

/// The last step of a place in a request.
fn field(place: &str) -> String {
    format!("`{}`", place.rsplit('.').next().unwrap_or(place))
}

/// One row per route: the request, what it may hold, and how it is recognised.
fn routes(subjects: &[Subject]) -> String {
    let mut out =
        "| | request | carries | groups | traits | body | one group | key | dedup id | gzip | after a lost answer |\n"
            .to_owned();
    out.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for subject in subjects {
        let destination = subject.destination();
        for (route, says) in subject.routes() {
            let limits = destination.limits(route);
            let most = |number: usize| if number > 1_000_000_000 { "any".to_owned() } else { grouped(number) };
            let one = limits.element_bytes_max.saturating_add(limits.envelope_bytes) < limits.body_bytes_max;
            let cells = [
                request(&*destination, says, route),
                carries(&*destination, route),
                most(limits.elements_max),
                most(limits.traits_max),
                most(limits.body_bytes_max),
                if one { most(limits.element_bytes_max) } else { "as the body".to_owned() },
                key(&*destination, says, route),
                dedup_place(subject, says, route).map_or("–".to_owned(), |place| field(&place)),
                yes(destination.features().gzip).to_owned(),
                if destination.repeatable(route) { "repeated" } else { "held" }.to_owned(),
            ];
            writeln!(out, "| {} | {} |", subject.row.name, cells.join(" | ")).unwrap();
        }
    }
    out
}

/// The kinds of change that travel on it.
fn carries(destination: &dyn Destination, route: Route) -> String {
    let here = Says::ALL.into_iter().filter(|says| {
        let addressed = addressed(destination, "acme", says.change(1, "x"));
        says.promised(destination)
            && destination.parts(&addressed).is_ok_and(|parts| parts.iter().any(|part| part.route == route))
    });
    let names = here.map(|says| match says {
        Says::Values(op) => op.name().replace('_', " "),
        Says::Null => "null".to_owned(),
        Says::Unset => "unset".to_owned(),
        Says::Delete => "delete".to_owned(),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Method and path.
fn request(destination: &dyn Destination, says: Says, route: Route) -> String {
    let sent = send(destination, &addressed(destination, "acme", says.change(1, "x"))).unwrap();
    let request = &sent.iter().find(|sent| sent.part.route == route).unwrap().request;
    match url::Url::parse(&request.url) {
        Ok(url) if url.has_host() => format!("`{} {}`", request.method, url.path().replace("acme", "{key}")),
        _ => format!("`{}`", request.method.to_lowercase()),
    }
}

/// Where the secret stands: whatever differs between a request and its masked form.
fn key(destination: &dyn Destination, says: Says, route: Route) -> String {
    let sent = send(destination, &addressed(destination, "acme", says.change(1, "x"))).unwrap();
    let request = &sent.iter().find(|sent| sent.part.route == route).unwrap().request;
    let masked = destination.masked(request);
    let headers = request.headers.iter().zip(&masked.headers).filter(|(own, masked)| own != masked);
    let mut places: Vec<String> = headers.map(|((name, _), _)| format!("header `{name}`")).collect();
    let differences = Trees::of(request).unwrap().differences(&Trees::of(&masked).unwrap());
    places.extend(differences.iter().map(|(place, ..)| format!("body, {}", field(place))));
    if places.is_empty() { "–".to_owned() } else { places.join("; ") }
}

#[test]
fn documented_tables_are_those_of_the_code() {
    let subjects: Vec<Subject> = Subject::all().collect();
    let made = format!(
        "{BEGIN}\nWhat a mapping may ask for. `check` refuses anything else before a row is read.\n\n{}\n\
         Each kind of request, and the most that goes into one. \"As the body\": one group alone may fill a request. By its \
         dedup id\nthe vendor recognises a request that comes twice. After a lost answer a request is repeated, or its \
         groups are held and\nshown under `groupcast rejected`.\n\n{}\n{END}",
        abilities(&subjects),
        routes(&subjects)
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/destinations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark where the tables begin");
    let (_, after) = rest.split_once(END).expect("the mark where the tables end");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(path, format!("{before}{made}{after}")).unwrap();
        return;
    }
    let stale = !text.contains(&made);
    assert!(!stale, "docs/destinations.md is stale: run `UPDATE_DOCS=1 cargo test --test it documented`\n{made}");
}

//! Many URLs of few routes, in any order.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::*;

fn routes() -> Routes {
    Routes::new(&[]).unwrap()
}

fn named(routes: &mut Routes, path: &str) -> String {
    routes.route(path).to_string()
}

const WORDS: &[&str] = &[
    "quiet", "river", "garden", "copper", "lamp", "winter", "coffee", "table", "green", "leather",
    "boots", "summer", "wooden", "chair", "modern", "kitchen", "travel", "guide", "simple",
    "recipes", "italian", "pasta", "running", "shoes", "cotton", "shirt", "vintage", "camera",
];

const HEX: &[u8] = b"0123456789abcdef";
const BASE64_URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const CROCKFORD: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn text(rng: &mut SmallRng, alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| char::from(*alphabet.choose(rng).unwrap())).collect()
}

fn uuid(rng: &mut SmallRng) -> String {
    [8, 4, 4, 4, 12].map(|length| text(rng, HEX, length)).join("-")
}

/// Titles of two to six words, every fourth with a number in it.
fn slug(rng: &mut SmallRng) -> String {
    let count = rng.random_range(2..=6);
    let mut words: Vec<String> =
        (0..count).map(|_| (*WORDS.choose(rng).unwrap()).to_owned()).collect();
    if rng.random_range(0..4) == 0 {
        words.push(rng.random_range(10..3000).to_string());
    }
    words.join("-")
}

fn date(rng: &mut SmallRng) -> String {
    let (year, month) = (rng.random_range(2019..2027), rng.random_range(1..=12));
    format!("{year}-{month:02}-{:02}", rng.random_range(1..=28))
}

fn email(rng: &mut SmallRng) -> String {
    let (a, b) = (WORDS.choose(rng).unwrap(), rng.random_range(0..9999));
    let at = if rng.random() { "@" } else { "%40" };
    format!("{a}.{b}{at}example.com")
}

fn locale(rng: &mut SmallRng) -> &'static str {
    ["en-US", "en-GB", "de-DE", "fr-FR", "pt-BR", "zh-Hans", "ja-JP", "en", "de", "fr", "es"]
        .choose(rng)
        .unwrap()
}

/// Twenty routes, and a URL of the given one.
const ROUTES: usize = 20;

fn url(rng: &mut SmallRng, route: usize) -> String {
    let number = rng.random_range(1..5_000_000_u32);
    match route {
        0 => format!("/api/v1/users/{number}"),
        1 => format!("/api/v1/users/{number}/orders"),
        2 => format!("/api/v1/orders/{}", uuid(rng)),
        3 => format!("/api/v1/orders/{}/items/{number}", uuid(rng)),
        4 => format!("/api/v1/products/{}", slug(rng)),
        5 => format!("/api/v1/products/{}/reviews", slug(rng)),
        6 => format!("/calendar/{}", date(rng)),
        7 => format!("/calendar/{}/events/{number}", date(rng)),
        8 => format!("/api/v1/subscribers/{}", email(rng)),
        9 => format!("/api/v1/tokens/{}", text(rng, BASE64_URL, 43)),
        10 => format!("/{}/docs/{}", locale(rng), slug(rng)),
        11 => format!("/{}/pricing?ref={number}", locale(rng)),
        12 => format!("/blog/{}", slug(rng)),
        13 => format!("/files/{}/download", text(rng, HEX, 40)),
        14 => format!("/assets/{}.{}.js", WORDS.choose(rng).unwrap(), text(rng, HEX, 8)),
        15 => format!("/api/v1/health?t={number}"),
        16 => format!("/login?next=%2Forders%2F{number}"),
        17 => format!("/api/v1/search?q={}", slug(rng)),
        18 => format!("/invoices/INV-{}-{number}", rng.random_range(2019..2027)),
        _ => format!("/api/v1/sessions/{}", text(rng, CROCKFORD, 26)),
    }
}

/// 1,000 distinct URLs of the twenty routes, with the route of each.
fn urls(seed: u64) -> Vec<(usize, String)> {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let mut seen = HashSet::new();
    let mut urls = Vec::new();
    while urls.len() < 1_000 {
        let route = urls.len() % ROUTES;
        let url = url(rng, route);
        if seen.insert(url.clone()) {
            urls.push((route, url));
        }
    }
    urls.shuffle(rng);
    urls
}

#[test]
fn a_thousand_urls_of_twenty_routes_have_few_names() {
    for seed in 0..50 {
        let mut routes = routes();
        let mut all = HashSet::new();
        let mut names: Vec<HashMap<Arc<str>, u32>> = vec![HashMap::new(); ROUTES];
        for (route, url) in urls(seed) {
            let name = routes.route(&url);
            all.insert(Arc::clone(&name));
            *names[route].entry(name).or_default() += 1;
        }
        assert!(all.len() <= 25, "seed {seed}: {} names: {all:?}", all.len());
        // Each route has one name that nearly all of its requests got, and no other route has it.
        let mut usual = HashSet::new();
        for (route, names) in names.iter().enumerate() {
            let (name, most) = names.iter().max_by_key(|(_, count)| **count).unwrap();
            let requests: u32 = names.values().sum();
            assert!(most * 10 >= requests * 8, "seed {seed}, route {route}: {names:?}");
            assert!(usual.insert(Arc::clone(name)), "seed {seed}: two routes are {name}");
        }
    }
}

#[test]
fn the_first_requests_name_is_the_last_ones() {
    let mut routes = routes();
    for (path, name) in [
        ("/", "/"),
        ("", "/"),
        ("/orders/1841?x=1#y", "/orders/{id}"),
        ("/orders/1841/", "/orders/{id}"),
        ("//orders//1842", "/orders/{id}"),
        ("/orders;jsessionid=5F2A/7", "/orders/{id}"),
        ("http://shop.example:8080/orders/7", "/orders/{id}"),
        ("http://shop.example", "/"),
        ("*", "/*"),
        ("/users/me", "/users/me"),
        ("/users/507f1f77bcf86cd799439011/posts/how-to-cook-an-egg", "/users/{id}/posts/{slug}"),
        ("/v1/reports/2024-05-11.csv", "/v1/reports/{file}"),
        ("/en-US/about-us", "/{locale}/about-us"),
        ("/de/about-us", "/{locale}/about-us"),
    ] {
        assert_eq!(named(&mut routes, path), name, "{path}");
    }
}

#[test]
fn languages_are_told_by_their_position() {
    let mut routes = routes();
    assert_eq!(named(&mut routes, "/en/docs"), "/{locale}/docs");
    assert_eq!(named(&mut routes, "/it/docs"), "/{locale}/docs");
    // Further in, two are no evidence; the third is, and so is one with a region.
    assert_eq!(named(&mut routes, "/shop/en/docs"), "/shop/en/docs");
    assert_eq!(named(&mut routes, "/shop/de/docs"), "/shop/de/docs");
    for language in ["fr", "en", "de", "ja"] {
        let path = format!("/shop/{language}/docs");
        assert_eq!(named(&mut routes, &path), "/shop/{locale}/docs");
    }
    assert_eq!(named(&mut routes, "/site/en"), "/site/en");
    assert_eq!(named(&mut routes, "/site/en-US"), "/site/{locale}");
    assert_eq!(named(&mut routes, "/site/en"), "/site/{locale}");
    assert_eq!(named(&mut routes, "/docs"), "/docs");
}

#[test]
fn values_that_look_like_words_are_learned() {
    let mut routes = routes();
    let mut all = HashSet::new();
    for round in 0..600 {
        let user: String =
            format!("{round:03}").bytes().map(|digit| char::from(b'a' + digit % 16)).collect();
        all.insert(routes.route(&format!("/users/{user}son/posts")));
        all.insert(routes.route("/users/me/posts"));
    }
    assert!(all.len() <= WORDS_LIMIT, "{}", all.len());
    assert_eq!(named(&mut routes, "/users/zoe/posts"), "/users/{value}/posts");
    assert_eq!(named(&mut routes, "/users/me/posts"), "/users/me/posts");
    assert_eq!(routes.names(), 2);
}

#[test]
fn many_fixed_routes_in_one_place_stay_apart() {
    let mut routes = routes();
    let paths: Vec<String> = WORDS.iter().map(|word| format!("/api/{word}")).collect();
    for _ in 0..3 {
        for path in &paths {
            assert_eq!(named(&mut routes, path), *path);
            assert_eq!(named(&mut routes, &format!("{path}/12")), format!("{path}/{{id}}"));
        }
    }
}

#[test]
fn names_beyond_the_limit_are_one() {
    let mut routes = Routes::with_limit(&[], 3).unwrap();
    for path in ["/a", "/b", "/c"] {
        assert_eq!(named(&mut routes, path), path);
    }
    for path in ["/d", "/e/f"] {
        assert_eq!(named(&mut routes, path), Routes::OVERFLOW);
    }
    assert_eq!(named(&mut routes, "/b"), "/b");
}

#[test]
fn failed_requests_teach_nothing() {
    let mut routes = routes();
    routes.route("/orders/1");
    assert_eq!(&*routes.known("/orders/2"), "/orders/{id}");
    for path in ["/wp-login.php", "/.env", "/orders/2/admin", "/orders"] {
        assert_eq!(&*routes.known(path), Routes::OVERFLOW, "{path}");
    }
    assert_eq!(routes.names(), 1);
}

#[test]
fn the_operators_templates_come_first() {
    let templates =
        ["/users/*", "/users/{id}/posts/*", "/users/me", "/users/{name}", "/{tenant}/x"];
    let mut routes = Routes::new(&templates.map(str::to_owned)).unwrap();
    for (path, name) in [
        ("/users/me", "/users/me"),
        ("/users/ann", "/users/{name}"),
        ("/users/ann/posts/1/2", "/users/{id}/posts/*"),
        ("/users/ann/x/y", "/users/*"),
        ("/acme/x", "/{tenant}/x"),
        ("/acme/y", "/acme/y"),
    ] {
        assert_eq!(named(&mut routes, path), name, "{path}");
    }
    assert!(Routes::new(&["/a/{b".to_owned()]).is_err());
}

#[test]
fn the_same_requests_give_the_same_names() {
    let run = || {
        let mut routes = routes();
        urls(7).iter().map(|(_, url)| routes.route(url)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

/// Words only, and ever new ones at every depth: what nothing but the limits can hold.
#[test]
fn memory_is_bounded() {
    let rng = &mut SmallRng::seed_from_u64(1);
    let mut routes = routes();
    let mut all = HashSet::new();
    for _ in 0..30_000 {
        let depth = rng.random_range(1..24);
        let path: String = (0..depth).map(|_| format!("/{}", text(rng, b"aeilnorst", 5))).collect();
        all.insert(routes.route(&path));
        assert!(routes.nodes <= NODES_LIMIT + WORDS_LIMIT && routes.names() <= NAMES_LIMIT);
    }
    assert_eq!(routes.nodes, routes.root.count());
    assert!(all.len() <= 2 * NAMES_LIMIT + 1, "{}", all.len());
}

#[test]
fn a_long_path_is_cut() {
    let mut routes = routes();
    assert_eq!(named(&mut routes, &"/a".repeat(40)), format!("{}/*", "/a".repeat(DEPTH_LIMIT - 1)));
    assert_eq!(named(&mut routes, &format!("/a/{}", "ü".repeat(9_000))), "/a/*");
    assert_eq!(named(&mut routes, &"x".repeat(9_000)), "/*");
}

proptest! {
    #[test]
    fn any_targets_have_names(targets in prop::collection::vec(any::<String>(), 0..40)) {
        let mut routes = routes();
        for target in &targets {
            let name = routes.route(target);
            prop_assert!(name.starts_with('/'));
            prop_assert_eq!(&routes.route(target), &name);
            prop_assert!(!name.contains('?'));
        }
        prop_assert_eq!(routes.nodes, routes.root.count());
    }

    #[test]
    fn paths_of_odd_pieces_have_names(
        paths in prop::collection::vec(prop::collection::vec(prop::sample::select(PIECES), 0..5), 0..120),
    ) {
        let mut routes = routes();
        for path in paths {
            let path = path.join("/");
            routes.route(&path);
            routes.known(&path);
        }
        prop_assert_eq!(routes.nodes, routes.root.count());
    }
}

const PIECES: &[&str] = &[
    "",
    "en",
    "de",
    "fr",
    "xh",
    "en-US",
    "a",
    "b",
    "a-b",
    "c_d",
    "7",
    "42",
    "%41",
    "%zz",
    "%",
    "*",
    "{",
    "{id}",
    ";",
    ".",
    "..",
    ".js",
    "a.js",
    "://",
    "?x",
    "how-to-cook-an-egg",
    "2024-05-11",
    "a@b.c",
];

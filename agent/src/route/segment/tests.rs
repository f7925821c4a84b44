//! Values that are met in paths, and words that must stay words.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[rstest]
#[case(Kind::Id, "0 7 42 -5 1234567890 1-100 52.52,13.40 3.14159 2024")]
#[case(Kind::Id, "3fa85f64-5717-4562-b3fc-2c963f66afa6 3FA85F6457174562B3FC2C963F66AFA6")]
#[case(Kind::Id, "507f1f77bcf86cd799439011 9fceb02 e83c5163316f89bfbde7d9ab23ca2e25604af290")]
#[case(Kind::Id, "01ARZ3NDEKTSV4RRFFQ69G5FAV 0ujtsYcgvSTl8PAuAdqWYSMnLOv V1StGXR8_Z5jdHi6B-myT")]
#[case(
    Kind::Id,
    "ck2q8x7yz0000qzrmn831i7rn dQw4w9WgXcQ cus_NffrFeUfNV2Hib pi_3MtwBwLkdIwHu7ix28a3tqPa"
)]
#[case(Kind::Id, "ord-12345 INV-2024-001 PROJ-7 user_8841 user1234 SKU4411 a1b2c3")]
#[case(Kind::Id, "aGVsbG8gd29ybGQ= SGVsbG9Xb3JsZEhlbGxvV29ybGQ=")]
#[case(Kind::Id, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P")]
#[case(Kind::Date, "2024-05-11 2024-05 11-05-2024 2024-W19 2024-05-11T10:15:00Z 20240511T101500Z")]
#[case(Kind::Email, "ann@example.com ann.lee%2Bx%40example.co.uk")]
#[case(Kind::Locale, "en-US pt_BR de-de zh-Hant zh-Hans-CN fr-CA")]
#[case(
    Kind::Slug,
    "how-to-cook-a-perfect-egg iphone-15-pro top-10-recipes-2024 the-rust-programming-language"
)]
#[case(Kind::Slug, "my-post-3f9a2b1c 10-ways-to-fail")]
#[case(
    Kind::File,
    "main.3f9a2b1c.js app-8d3cfe01.css 12345.json index-BfX3k2Qa.js report-2024-05.pdf"
)]
#[case(Kind::File, "3fa85f64-5717-4562-b3fc-2c963f66afa6.png")]
#[case(Kind::Value, "caf%C3%A9 hello%20world münchen @alice a,b,c f(x) ~ann")]
fn values(#[case] kind: Kind, #[case] texts: &str) {
    for text in texts.split(' ') {
        assert_eq!(classify(text, 2), Some(kind), "{text}");
    }
}

#[rstest]
#[case("orders users me search api v1 v2.1 v1beta1 oauth2 callback s3 k8s i18n base64 utf8 md5")]
#[case("about-us sign-in forgot-password password-reset terms-and-conditions how-it-works to-do")]
#[case("getUserById OrderService graphQL OAuth2Callback getHTTPSProxy listOrganizationMembers")]
#[case(
    "favicon.ico robots.txt main.js index.html style.min.css openapi.json sitemap.xml jquery.js"
)]
#[case(".well-known healthz readyz metrics $metadata orders:batchGet com.acme.orders en de")]
#[case("api-v2 step-1 oauth-2 web3 ga4 http2 log4j 2fa 3d facade decade added strengths rhythms")]
#[case("subscriptions authentication configuration_settings line_items shopping-cart order_items")]
fn words(#[case] texts: &str) {
    for text in texts.split(' ') {
        assert_eq!(classify(text, 1), None, "{text}");
    }
}

#[test]
fn a_position_changes_the_meaning() {
    assert_eq!(classify("1.1", 0), None);
    assert_eq!(classify("1.1", 3), Some(Kind::Id));
    assert_eq!(classify("terms-and-conditions-of-use", 0), None);
    assert_eq!(classify("terms-and-conditions-of-use", 2), Some(Kind::Slug));
}

#[test]
fn the_tables_hold_pairs() {
    assert_eq!((LANGUAGES.len() % 2, COUNTRIES.len()), (0, 249 * 2));
    for language in ["en", "de", "zh", "pt", "ja", "aa", "zu"] {
        assert!(is_language(language), "{language}");
    }
    assert!(!is_language("xx") && !is_language("EN") && !is_language("eng"));
}

proptest! {
    #[test]
    fn any_text_is_an_answer(text in any::<String>(), depth in 0_usize..5) {
        classify(&text, depth);
    }

    #[test]
    fn random_identifiers_are_not_words(bytes in any::<[u8; 16]>(), kind in 0..3) {
        let alphabet: &[u8] = match kind {
            0 => b"0123456789abcdef",
            1 => b"0123456789ABCDEFGHJKMNPQRSTVWXYZ",
            _ => b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_",
        };
        let text: String = bytes
            .iter()
            .flat_map(|byte| [byte % 16 * 4 + byte / 64, byte / 4])
            .map(|index| char::from(alphabet[usize::from(index) % alphabet.len()]))
            .collect();
        // A text of 32 characters over these alphabets has a digit with a probability over 99 %.
        prop_assume!(text.bytes().filter(u8::is_ascii_digit).count() >= 2);
        prop_assert!(classify(&text, 1).is_some(), "{}", text);
    }
}

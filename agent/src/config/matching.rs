//! `match`: which processes a rule is for, as terms of `process::Rule`.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::scalar::Scalar;
use crate::process::{Rule, Term};

/// Conditions that must all hold. A key with a list holds if one of its values does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The executable: a glob over its path, or over the file's name if it has no slash.
    pub exe: Option<Values<Exe>>,
    /// The command line: a glob over the arguments joined with spaces.
    pub cmd: Option<Values<Cmd>>,
    /// The runtime: `node` or `python`.
    pub runtime: Option<Values<Runtime>>,
    /// The user: a name, by the process's own `/etc/passwd`, or a uid.
    pub user: Option<Values<User>>,
    /// A TCP port on which it listens, or a range such as `8000-8099`.
    pub port: Option<Values<Port>>,
    /// The cgroup's path: a glob.
    pub cgroup: Option<Values<Cgroup>>,
    /// The container's full id: a glob; `*` for any container.
    pub container: Option<Values<Container>>,
    /// A label of its pod, or else of its container: `KEY` if there is one, `KEY=GLOB` if it is like that.
    pub label: Option<Values<Label>>,
    /// The name of its pod: a glob.
    pub pod: Option<Values<Pod>>,
    /// The Kubernetes namespace of its pod: a glob.
    pub namespace: Option<Values<Namespace>>,
    /// A variable of its environment: `NAME` if it is set, `NAME=GLOB` if it is like that.
    pub env: Option<Values<Env>>,
    /// Its parent's executable, as with `exe`.
    pub parent: Option<Values<Parent>>,
    /// Its parent's command line, as with `cmd`.
    pub parent_cmd: Option<Values<ParentCmd>>,
    /// Conditions of which none may hold.
    pub not: Option<Box<Negated>>,
}

/// Conditions of which none may hold: the same keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as in `Match`")]
pub struct Negated {
    pub exe: Option<Values<Exe>>,
    pub cmd: Option<Values<Cmd>>,
    pub runtime: Option<Values<Runtime>>,
    pub user: Option<Values<User>>,
    pub port: Option<Values<Port>>,
    pub cgroup: Option<Values<Cgroup>>,
    pub container: Option<Values<Container>>,
    pub label: Option<Values<Label>>,
    pub pod: Option<Values<Pod>>,
    pub namespace: Option<Values<Namespace>>,
    pub env: Option<Values<Env>>,
    pub parent: Option<Values<Parent>>,
    pub parent_cmd: Option<Values<ParentCmd>>,
}

impl Match {
    /// The same as a rule.
    pub fn rule(&self) -> Rule {
        let mut terms = Vec::new();
        let plain = [
            term(false, &self.exe),
            term(false, &self.cmd),
            term(false, &self.runtime),
            term(false, &self.user),
            term(false, &self.port),
            term(false, &self.cgroup),
            term(false, &self.container),
            term(false, &self.label),
            term(false, &self.pod),
            term(false, &self.namespace),
            term(false, &self.env),
            term(false, &self.parent),
            term(false, &self.parent_cmd),
        ];
        terms.extend(plain.into_iter().flatten());
        if let Some(not) = &self.not {
            let negated = [
                term(true, &not.exe),
                term(true, &not.cmd),
                term(true, &not.runtime),
                term(true, &not.user),
                term(true, &not.port),
                term(true, &not.cgroup),
                term(true, &not.container),
                term(true, &not.label),
                term(true, &not.pod),
                term(true, &not.namespace),
                term(true, &not.env),
                term(true, &not.parent),
                term(true, &not.parent_cmd),
            ];
            terms.extend(negated.into_iter().flatten());
        }
        Rule::of(terms)
    }
}

fn term<K: Key>(negated: bool, values: &Option<Values<K>>) -> Option<Term> {
    // They were tried when they were read.
    Term::any(negated, K::NAME, &values.as_ref()?.texts).ok()
}

/// A key of a rule.
pub trait Key {
    /// As in a rule's text.
    const NAME: &'static str;
}

macro_rules! keys {
    ($($type:ident $name:literal),+ $(,)?) => {$(
        #[doc = concat!("`", $name, "`.")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum $type {}
        impl Key for $type {
            const NAME: &'static str = $name;
        }
    )+};
}

keys! {
    Exe "exe",
    Cmd "cmd",
    Runtime "runtime",
    User "user",
    Port "port",
    Cgroup "cgroup",
    Container "container",
    Label "label",
    Pod "pod",
    Namespace "namespace",
    Env "env",
    Parent "parent",
    ParentCmd "parent_cmd",
}

/// One value or several, each tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<K> {
    texts: Vec<String>,
    key: PhantomData<K>,
}

impl<'de, K: Key> Deserialize<'de> for Values<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<K>(PhantomData<K>);

        impl<'de, K: Key> de::Visitor<'de> for Visitor<K> {
            type Value = Values<K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Values<K>, E> {
                let Scalar(text) =
                    Scalar::<String>::deserialize(de::value::StrDeserializer::new(text))?;
                tried::<K, E>(&text)?;
                Ok(Values { texts: vec![text], key: PhantomData })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Values<K>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Values<K>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Values<K>, E> {
                self.visit_str(if truth { "true" } else { "false" })
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Values<K>, A::Error> {
                let mut texts = Vec::new();
                while let Some(Tried(text, _)) = list.next_element::<Tried<K>>()? {
                    texts.push(text);
                }
                if texts.is_empty() {
                    return Err(de::Error::custom(format!("`{}` has no value", K::NAME)));
                }
                Ok(Values { texts, key: PhantomData })
            }
        }

        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

/// An element of a list, so that an error is told where it stands.
struct Tried<K>(String, PhantomData<K>);

impl<'de, K: Key> Deserialize<'de> for Tried<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(text) = Scalar::<String>::deserialize(deserializer)?;
        tried::<K, D::Error>(&text)?;
        Ok(Self(text, PhantomData))
    }
}

fn tried<K: Key, E: de::Error>(text: &str) -> Result<(), E> {
    Term::any(false, K::NAME, [text]).map(drop).map_err(E::custom)
}

impl<K> JsonSchema for Values<K> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Values".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a value, or a list of values of which one must hold",
            "anyOf": [
                { "type": ["string", "integer"] },
                { "type": "array", "items": { "type": ["string", "integer"] }, "minItems": 1 },
            ]
        })
    }
}

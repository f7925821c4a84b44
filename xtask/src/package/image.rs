//! A container image without a container engine: one layer on an empty base, in an archive that is both an OCI
//! image layout (<https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>) and what
//! `docker load` reads.

use anyhow::Result;
use serde_json::{Value, json};

use super::archive::{self, Entry};
use super::{About, deb, hex};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The archive's bytes.
pub(super) fn make(about: &About, files: &[Entry]) -> Result<Vec<u8>> {
    let tar = archive::tar("", about.time, files)?;
    let layer = archive::gzip(&tar)?;
    let created = timestamp(about.time);
    let labels = json!({
        "org.opencontainers.image.title": "wirespan",
        "org.opencontainers.image.description": about.summary,
        "org.opencontainers.image.version": about.version,
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
    });
    // Architectures have Go's names, which are Debian's for those that there are.
    let config = json!({
        "created": created,
        "architecture": deb::architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/wirespan"],
            "Cmd": ["run"],
            "Env": ["PATH=/usr/bin"],
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&tar))] },
        "history": [{ "created": created, "created_by": "cargo xtask package" }],
    });
    let config = bytes(&config)?;
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
        "annotations": labels,
    }))?;
    let mut described = descriptor(MANIFEST, &manifest);
    let platform = json!({ "architecture": deb::architecture(), "os": "linux" });
    if let Some(fields) = described.as_object_mut() {
        fields.insert("platform".to_owned(), platform);
        let name = json!({ "org.opencontainers.image.ref.name": about.version });
        fields.insert("annotations".to_owned(), name);
    }
    let index = json!({ "schemaVersion": 2, "manifests": [described] });
    // What engines read that don't know the layout yet.
    let docker = json!([{
        "Config": blob(&config),
        "RepoTags": [format!("wirespan:{}", about.version)],
        "Layers": [blob(&layer)],
    }]);
    let entries = [
        Entry::new("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        Entry::new("index.json", bytes(&index)?),
        Entry::new("manifest.json", bytes(&docker)?),
        Entry::new(blob(&config), config),
        Entry::new(blob(&manifest), manifest),
        Entry::new(blob(&layer), layer),
    ];
    archive::tar("", about.time, &entries)
}

/// What the layout calls a blob's place.
fn blob(content: &[u8]) -> String {
    format!("blobs/sha256/{}", hex(content))
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    let digest = format!("sha256:{}", hex(content));
    json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

/// RFC 3339, from seconds since 1970. Days to dates as in
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
pub(super) fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * shifted + 2) / 5 + 1, shifted % 12 + 3);
    let (month, next) = if month > 12 { (month - 12, 1) } else { (month, 0) };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    #[test]
    fn every_digest_leads_to_what_it_describes() {
        let about = About {
            version: "1.2.3".to_owned(),
            revision: 1,
            time: 1_000_000_000,
            summary: "s",
            description: "d",
        };
        let files = [Entry::new("usr/bin/wirespan", "binary").mode(0o755)];
        let archive = make(&about, &files).unwrap();
        let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut tar = tar::Archive::new(archive.as_slice());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.insert(entry.path().unwrap().display().to_string(), content);
        }
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let followed = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
            let content = found.get(&format!("blobs/{digest}")).unwrap().clone();
            assert_eq!(descriptor["size"], content.len());
            assert_eq!(digest, format!("sha256/{}", hex(&content)));
            content
        };
        let manifest = json(&followed(&json(&found["index.json"])["manifests"][0]));
        let config = json(&followed(&manifest["config"]));
        let layer = followed(&manifest["layers"][0]);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(layer.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&unpacked)));
        assert_eq!(config["created"], "2001-09-09T01:46:40Z");
        let docker = json(&found["manifest.json"]);
        assert!(found.contains_key(docker[0]["Config"].as_str().unwrap()));
        assert!(found.contains_key(docker[0]["Layers"][0].as_str().unwrap()));
    }

    #[test]
    fn dates_are_right_around_their_borders() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), date);
        }
    }
}

//! What `deploy/` promises, read from the files that people will really use.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dynaurora::config::Config;
use dynaurora::telemetry::metrics::TABLE;
use serde_json::Value;

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The config's defaults, as a file that sets nothing has them.
fn defaults() -> Config {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/minimal.toml");
    Config::read(&path, &[], std::iter::empty())
        .unwrap_or_else(|diagnostics| panic!("{}", diagnostics.render(false)))
}

/// One string or a list of them, as policies write their actions.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_policy_reads_and_never_writes() {
    let policy = json("deploy/iam/policy.json");
    let mut actions = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        assert!(statement.get("NotAction").is_none() && statement.get("NotResource").is_none());
        let resources = strings(&statement["Resource"]);
        assert!(!resources.is_empty());
        assert!(resources.iter().all(|resource| *resource != "*"), "{statement}");
        actions.extend(strings(&statement["Action"]));
    }
    // Named one by one, so that whatever is added has to be added here too, in sight of a reviewer.
    let allowed = [
        "dynamodb:DescribeStream",
        "dynamodb:DescribeTable",
        "dynamodb:GetItem",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:Scan",
        "rds-db:connect",
    ];
    assert_eq!(actions, BTreeSet::from(allowed));
}

#[test]
fn stream_actions_are_allowed_on_the_streams_of_one_table_only() {
    let policy = json("deploy/iam/policy.json");
    for statement in policy["Statement"].as_array().unwrap() {
        let on_stream = strings(&statement["Action"])
            .iter()
            .any(|action| action.ends_with(":DescribeStream") || action.ends_with(":GetRecords"));
        for resource in strings(&statement["Resource"]) {
            assert_eq!(resource.ends_with("table/TABLE/stream/*"), on_stream, "{resource}");
        }
    }
}

#[test]
fn the_policy_is_the_one_that_the_program_prints() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("dynaurora.toml");
    let text = "version = 1\n[target]\nurl = \"postgres://dynaurora@host/reads\"\nauth = \"iam\"\n\
                [source.a]\ntable = \"TABLE\"\nprimary_key = [\"id\"]\n[source.a.columns]\n\
                id = \"id\"\n";
    fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dynaurora"))
        .args(["iam-policy", "--config"])
        .arg(&config)
        .env_remove("AWS_REGION")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, json("deploy/iam/policy.json"));
}

/// The values that a unit gives a directive, in order.
fn directive<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(own, _)| *own == name).map(|(_, value)| value).collect()
}

#[test]
fn the_unit_restarts_watches_and_confines() {
    let unit = read("deploy/systemd/dynaurora.service");
    for (name, value) in [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "78"),
        ("LimitNOFILE", "65536"),
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectProc", "invisible"),
        ("ProcSubset", "pid"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("LockPersonality", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
        ("CapabilityBoundingSet", ""),
        ("UMask", "0077"),
        ("LimitCORE", "0"),
    ] {
        assert_eq!(directive(&unit, name), [value], "{name}");
    }
    assert_eq!(directive(&unit, "SystemCallFilter")[0], "@system-service");
    let seconds = |name: &str| directive(&unit, name)[0].parse::<u64>().unwrap();
    assert!(seconds("WatchdogSec") > 0);
    assert!(
        seconds("TimeoutStopSec") > defaults().worker.grace_secs,
        "killed before it has drained"
    );
    assert_eq!(directive(&unit, "LoadCredential").len(), 1);
    assert!(directive(&unit, "Environment").is_empty(), "secrets come as credentials");
}

#[test]
fn systemd_takes_the_unit_and_finds_it_confined() {
    let version = Command::new("systemd-analyze").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no systemd-analyze here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("dynaurora.service");
    // `verify` wants the program to exist, and a machine that runs tests has not installed it.
    let unit = read("deploy/systemd/dynaurora.service");
    fs::write(&copy, unit.replace("/usr/local/bin/dynaurora", "/bin/sh")).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = text.lines().filter(|line| line.contains("dynaurora.service")).collect();
    assert!(output.status.success() && ours.is_empty(), "{text}");
    // The threshold counts tenths, from 0 (best) to 100.
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
        .arg(&copy)
        .output()
        .unwrap();
    let score = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{score}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_task_is_healthy_patient_and_powerless() {
    let task = json("deploy/ecs/task-definition.json");
    let container = &task["containerDefinitions"][0];
    let command = strings(&container["healthCheck"]["command"]);
    assert_eq!(command, ["CMD", "/usr/local/bin/dynaurora", "healthcheck"]);
    assert!(container["stopTimeout"].as_u64().unwrap() > defaults().worker.grace_secs);
    let user = container["user"].as_str().unwrap().split(':').next().unwrap();
    assert!(user.parse::<u32>().unwrap() > 0);
    assert_eq!(container["readonlyRootFilesystem"], true);
    assert_eq!(container["privileged"], false);
    let drop = &container["linuxParameters"]["capabilities"]["drop"];
    assert_eq!(strings(drop), ["ALL"]);
    let image = container["image"].as_str().unwrap();
    assert!(image.contains("@sha256:"), "an image is named by its digest");
    let names = container["environment"].as_array().unwrap();
    let secret = |entry: &Value| entry["name"].as_str().unwrap().contains("PASSWORD");
    assert!(!names.iter().any(secret), "secrets come through `secrets`");
}

#[test]
fn the_image_runs_as_a_number_and_knows_how_it_is() {
    let file = read("deploy/docker/Dockerfile");
    let last = file.rsplit("\nFROM ").next().unwrap();
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| *id > 0), "{user}");
    assert!(last.contains("HEALTHCHECK") && last.contains("\"healthcheck\"]"));
    assert!(!last.contains("\nRUN "), "the last stage has no shell");
    assert!(file.contains("cargo build --release --locked"));
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(file.contains(&format!("RUSTUP_TOOLCHAIN={channel}\n")), "{channel}");
    assert!(file.contains(&format!("rust:{channel}-")), "{channel}");
}

/// Every metric's name in a text, without what the exposition appends to a histogram's name.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !legal(c))
        .filter(|word| word.starts_with("dynaurora_"))
        .map(|name| {
            let ends = ["_bucket", "_sum", "_count"];
            ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
        })
        .collect()
}

/// The labels that an expression groups by.
fn grouped_by(expression: &str) -> impl Iterator<Item = &str> {
    let lists = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

#[test]
fn alerts_ask_only_for_metrics_that_exist() {
    let alerts = read("deploy/prometheus/alerts.yml");
    let asked = metric_names(&alerts);
    for name in &asked {
        assert!(TABLE.iter().any(|row| row.name == *name), "{name} is not a metric");
    }
    for expression in alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        let names = metric_names(expression);
        for row in TABLE.iter().filter(|row| names.contains(row.name)) {
            for label in grouped_by(expression) {
                assert!(row.labels.iter().any(|own| own.name == label), "{} {label}", row.name);
            }
        }
    }
    for name in [
        "dynaurora_retention_headroom_seconds",
        "dynaurora_synced_up_to_timestamp_seconds",
        "dynaurora_halted",
        "dynaurora_dead_letters",
        "dynaurora_gaps_open",
    ] {
        assert!(asked.contains(name), "nothing watches {name}");
    }
    for alert in alerts.split("- alert: ").skip(1) {
        for part in ["expr: ", "severity: ", "summary: "] {
            assert!(alert.contains(part), "{part} is missing in {alert}");
        }
    }
}

#[test]
fn documents_name_only_metrics_that_exist() {
    // A column of the target's tables, and a role.
    let others = ["dynaurora_version", "dynaurora_reader"];
    for document in ["README.md", "deploy/README.md", "docs/reliability.md"] {
        for name in metric_names(&read(document)) {
            let known = TABLE.iter().any(|row| row.name == name) || others.contains(&name);
            assert!(known, "{document}: {name} is not a metric");
        }
    }
}

#[test]
fn every_file_agrees_on_the_port() {
    let port = defaults().telemetry.listen.port().to_string();
    for name in [
        "deploy/docker/Dockerfile",
        "deploy/ecs/task-definition.json",
        "deploy/prometheus/scrape.yml",
        "deploy/README.md",
    ] {
        assert!(read(name).contains(&port), "{name} does not name port {port}");
    }
}

#[test]
fn the_grants_file_gives_a_reader_what_the_command_gives() {
    let file = read("deploy/sql/grants.sql");
    let printed = dynaurora::postgres::listings::grants::query_grants(&[], "reader").unwrap();
    for line in printed.lines() {
        let object = line.trim_start_matches("grant ").split(" on ").nth(1).unwrap();
        let object = object.split(" to \"").next().unwrap();
        let object = object.trim_start_matches("function ");
        assert!(file.contains(object), "{object} of {line}");
    }
    assert_eq!(printed.lines().count(), 4, "{printed}");
}

#[test]
fn the_grants_give_rows_and_nothing_else() {
    let sql = read("deploy/sql/grants.sql").to_lowercase();
    let code: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = code.join("\n");
    for word in ["superuser", "bypassrls", "all privileges", "create on", "truncate", "to public"] {
        assert!(!code.contains(word), "{word}");
    }
    for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        assert!(code.contains(&format!("set {setting} =")), "{setting}");
    }
    assert!(code.contains("nocreatedb nocreaterole") && code.contains("connection limit"));
}

//! A real Prometheus scrapes the real stack, and promtool reads every page of metrics.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use harness::Stack;
use harness::get;
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::SERVICES;
use crate::machine::metrics_address;

/// Every target is asked this often, in seconds.
const INTERVAL_S: u32 = 3;

/// How long every target has to be up without a gap.
const WATCHED: Duration = Duration::from_secs(60);

fn tool(name: &str) -> PathBuf {
    let folder = std::env::var_os("HUBBUB_PROMETHEUS").unwrap();
    PathBuf::from(folder).join(name)
}

/// A running Prometheus; killed when dropped.
struct Prometheus {
    child: Child,
    url: String,
    log: Receiver<String>,
    _scratch: TempDir,
}

impl Prometheus {
    fn start(scrapes: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let config = scratch.path().join("prometheus.yml");
        let global = format!("global: {{ scrape_interval: {INTERVAL_S}s, scrape_timeout: 2s }}\n");
        fs::write(&config, format!("{global}scrape_configs:\n{scrapes}")).unwrap();
        let mut child = Command::new(tool("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", scratch.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|l| lines.send(l)));
        // Made first, so that a failure below ends the process.
        let mut prometheus = Self { child, url: String::new(), log, _scratch: scratch };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = prometheus.log.recv_timeout(left).expect("Prometheus says that it is ready");
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                prometheus.url = format!("http://{address}");
            }
            if line.contains("Server is ready to receive web requests") {
                break;
            }
        }
        // On a busy machine the line comes before the answer.
        while get(&format!("{}/-/ready", prometheus.url), &[]).status != 200 {
            assert!(Instant::now() < deadline, "Prometheus does not become ready");
            prometheus.watch(Duration::from_millis(100));
        }
        prometheus
    }

    /// The result of a query, by the label `job`.
    fn query(&self, query: &str) -> Vec<(String, f64)> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let reply = get(&format!("{}/api/v1/query?query={encoded}", self.url), &[]);
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        let reply: Value = serde_json::from_str(reply.text()).unwrap();
        let results = reply["data"]["result"].as_array().unwrap_or_else(|| panic!("{reply}"));
        let pair = |result: &Value| {
            let job = result["metric"]["job"].as_str().unwrap().to_owned();
            (job, result["value"][1].as_str().unwrap().parse().unwrap())
        };
        let mut pairs: Vec<(String, f64)> = results.iter().map(pair).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs
    }

    /// Follows the log for a while; a complaint of Prometheus ends the test.
    fn watch(&self, time: Duration) {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    let complains = line.contains("level=warn") || line.contains("level=error");
                    assert!(!complains, "{line}");
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("Prometheus ended"),
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _: std::io::Result<()> = self.child.kill();
        let _: std::io::Result<std::process::ExitStatus> = self.child.wait();
    }
}

#[test]
fn prometheus_finds_every_target_up_for_a_minute() {
    let stack = Stack::from_env();
    let mut scrapes: String = SERVICES
        .iter()
        .map(|service| {
            let target = metrics_address(stack.project(), service);
            format!("- {{ job_name: {service}, static_configs: [{{ targets: ['{target}'] }}] }}\n")
        })
        .collect();
    // And as the owner of the token sees them all, through the front door.
    scrapes += &format!(
        "- job_name: together\n  scheme: https\n  honor_labels: true\n  authorization: {{ credentials: '{}' }}\n  \
         tls_config: {{ ca_file: '{}', server_name: localhost }}\n  \
         static_configs: [{{ targets: ['{}'] }}]\n",
        stack.metrics_token(),
        stack.ca().display(),
        stack.https().trim_start_matches("https://"),
    );
    let prometheus = Prometheus::start(&scrapes);
    let jobs = || SERVICES.into_iter().chain(["together"]);
    let count = jobs().count();

    let deadline = Instant::now() + Duration::from_secs(30);
    while prometheus.query("up == 1").len() < count {
        assert!(Instant::now() < deadline, "not up: {:?}", prometheus.query("up"));
        prometheus.watch(Duration::from_secs(1));
    }
    // Traffic, so that there is something to count.
    for path in ["/dice", "/say/scraped", "/api/v1/places", "/nowhere"] {
        let _ = stack.curl(path, &["--output", "/dev/null"]).success();
    }
    prometheus.watch(WATCHED);

    let window = format!("[{}s]", WATCHED.as_secs());
    let mut expected: Vec<(String, f64)> = jobs().map(|job| (job.to_owned(), 1.0)).collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(prometheus.query(&format!("min_over_time(up{window})")), expected);
    let least = f64::from(u32::try_from(WATCHED.as_secs()).unwrap() / INTERVAL_S) - 2.0;
    for (job, scrapes) in prometheus.query(&format!("count_over_time(up{window})")) {
        assert!(scrapes >= least, "{job} was scraped {scrapes} times");
    }
    for (job, samples) in prometheus.query("scrape_samples_post_metric_relabeling") {
        assert!(samples > 10.0, "{job} has {samples} samples");
    }
    let of_together = "process_start_time_seconds{job='together'}";
    let services = format!("count by (job) (group by (job, service) ({of_together}))");
    assert_eq!(prometheus.query(&services), [("together".to_owned(), 4.0)]);
}

#[test]
fn promtool_has_nothing_to_say() {
    let stack = Stack::from_env();
    // A page of each kind first: a metric without a value is not on the page.
    for path in ["/dice", "/dice/7", "/say/checked", "/say/", "/api/v1/places", "/nowhere"] {
        let _ = stack.curl(path, &["--output", "/dev/null"]).success();
    }
    let mut pages: Vec<(String, String)> = SERVICES
        .iter()
        .map(|service| {
            let address = metrics_address(stack.project(), service);
            let reply = get(&format!("http://{address}/metrics"), &[]);
            assert_eq!(reply.status, 200, "{service}");
            ((*service).to_owned(), reply.text().to_owned())
        })
        .collect();
    let bearer = format!("Authorization: Bearer {}", stack.metrics_token());
    let together = stack.curl("/metrics", &["--fail", "--header", &bearer]).success().text();
    pages.push(("together".into(), together));

    let scratch = tempfile::tempdir().unwrap();
    for (name, page) in pages {
        assert!(page.contains("process_cpu_seconds_total"), "{name}: {page}");
        let file = scratch.path().join(&name);
        fs::write(&file, &page).unwrap();
        let mut promtool = Command::new(tool("promtool"));
        promtool.args(["check", "metrics"]).stdin(fs::File::open(&file).unwrap());
        let said = harness::run(&mut promtool);
        assert_eq!(
            (said.code, said.text(), said.stderr),
            (Some(0), String::new(), String::new()),
            "{name}"
        );
    }
}

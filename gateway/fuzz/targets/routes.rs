//! Routes, as the file and as the setting have them: nothing makes it panic, an error is short and
//! names a line that is there, and what a table answers belongs to it.
#![no_main]

use gateway_fuzz::rules::routes_file;
use gateway_fuzz::rules::table::Routes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // The setting, a line of what is asked, and the file.
    let mut parts = text.splitn(3, '\n');
    let (setting, asked, file) = (parts.next(), parts.next(), parts.next());
    let (setting, asked, file) =
        (setting.unwrap_or_default(), asked.unwrap_or_default(), file.unwrap_or_default());
    let settings = setting.parse::<Routes>().unwrap_or_default();
    // Line ends are blanks.
    let lines = setting.split_whitespace().collect::<Vec<_>>().join("\n");
    assert_eq!(lines.parse::<Routes>().unwrap_or_default(), settings);
    check(&settings, asked);
    let all = match routes_file::parse(file) {
        Ok(parsed) => match parsed.over(&settings) {
            Ok(all) => all,
            Err(error) => return told(file, &error),
        },
        Err(error) => return told(file, &error),
    };
    assert!(all.iter().len() >= settings.iter().len());
    check(&all, asked);
});

/// An error has a line of the file, and is for one line of a log.
fn told(file: &str, error: &routes_file::RoutesFileError) {
    assert!(error.line >= 1 && error.line <= file.split('\n').count(), "{error:?}");
    assert!(error.to_string().chars().count() < 1000, "{error}");
    assert!(!error.to_string().contains(char::is_control), "{error:?}");
}

fn check(routes: &Routes, asked: &str) {
    let written: Vec<String> = routes.iter().map(|(route, _)| route.to_string()).collect();
    let mut unique = written.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), written.len(), "two routes for one place");
    let upstreams = routes.upstreams();
    assert!(routes.iter().all(|(_, upstream)| !upstreams[upstream].places.is_empty()));
    let at = asked.find('/').unwrap_or(asked.len());
    let (host, path) = asked.split_at(at);
    if let Some(index) = routes.find(host, path) {
        assert!(index < written.len());
    }
}

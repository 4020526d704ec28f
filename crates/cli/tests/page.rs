//! The page of `demo --report` in a browser: as narrow as a phone, in the dark and in the light.
//!
//! Where there is no Chromium this is skipped and says so, unless `SPOTALIS_BROWSER_REQUIRED` is set.

#![expect(clippy::unwrap_used, reason = "this file is tests; the lint knows that of functions marked as such alone")]

mod common;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{file, run};
use serde_json::Value;

/// Puts the page into a frame as wide as a phone, and writes down what the browser made of it.
const HARNESS: &str = r#"<!DOCTYPE html><meta charset="utf-8"><iframe id="page" width="360" height="800" srcdoc="PAGE"></iframe>
<pre id="found"></pre><script>
const frame = document.getElementById("page");
frame.onload = () => {
  const page = frame.contentDocument, at = frame.contentWindow, style = at.getComputedStyle(page.body);
  const seen = (element) => { const box = element.getBoundingClientRect(); return box.width > 0 && box.height > 0; };
  const charts = [...page.querySelectorAll("figure svg")];
  document.getElementById("found").textContent = JSON.stringify({
    wide: page.documentElement.scrollWidth,
    charts: charts.length,
    shown: charts.filter((chart) => seen(chart) && seen(chart.querySelector(".w, .o, .s"))).length,
    striped: at.getComputedStyle(page.querySelector("figure .s")).fill,
    decisions: page.querySelectorAll("[aria-labelledby=decisions] tbody tr").length,
    loaded: at.performance.getEntriesByType("resource").length,
    text: style.color, back: style.backgroundColor, title: page.title,
  });
};
</script>"#;

/// The first of these that is on the path.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|place| names.map(|name| place.join(name))).find(|program| program.is_file())
}

/// What the browser made of the page.
fn found(browser: &Path, harness: &Path, scheme: &str) -> Value {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{scheme}"));
    let quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic", "--disable-sync"];
    let output = Command::new(browser)
        .args(quiet)
        .args(["--disable-background-networking", "--disable-component-update"])
        .arg(format!("--user-data-dir={}", home.display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", harness.display()))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    fs::remove_dir_all(home).unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    let found = page.split_once("<pre id=\"found\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    serde_json::from_str(found.unwrap_or_else(|| panic!("{page}")).0).unwrap()
}

/// How light an `rgb(r, g, b)` is.
fn lightness(colour: &Value) -> u32 {
    colour.as_str().unwrap().split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok()).sum()
}

#[test]
fn the_page_is_readable_on_a_phone_by_day_and_by_night() {
    let Some(browser) = browser() else {
        assert!(std::env::var_os("SPOTALIS_BROWSER_REQUIRED").is_none(), "there is no Chromium on the path");
        writeln!(io::stderr(), "skipped: there is no Chromium on the path").unwrap();
        return;
    };
    let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join("in-a-browser.html");
    let ran = run(&["demo", "--scenario", "controller-crash", "--report", report.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let page = fs::read_to_string(report).unwrap().replace('&', "&amp;").replace('"', "&quot;");
    let harness = file("harness.html", &HARNESS.replace("PAGE", &page));
    // As the browser numbers them: dark is 0, light is 1.
    for (scheme, is_dark) in [("0", true), ("1", false)] {
        let found = found(&browser, &harness, scheme);
        assert!(found["wide"].as_u64().unwrap() <= 360, "it has to be scrolled sideways: {found}");
        assert_eq!((&found["charts"], &found["shown"], &found["loaded"]), (&6.into(), &6.into(), &0.into()), "{found}");
        assert!(found["decisions"].as_u64().unwrap() > 20, "{found}");
        assert!(found["striped"].as_str().unwrap().contains("#hatch"), "{found}");
        assert_eq!(found["title"], "Spotalis: controller-crash");
        let (text, back) = (lightness(&found["text"]), lightness(&found["back"]));
        assert_eq!(text > back, is_dark, "{found}");
        assert!(text.abs_diff(back) > 450, "too little contrast: {found}");
    }
}

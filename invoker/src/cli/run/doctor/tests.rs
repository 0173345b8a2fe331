use super::*;

#[test]
fn the_table_counts_what_is_wrong() {
    let findings = [
        Finding::ok("id", "0"),
        Finding::warning("shared memory", "64 MiB", "make it larger"),
        Finding::failed("Docker", "no socket", "start it"),
    ];
    let text = print(&findings);
    assert!(
        text.contains("FAILED") && text.contains("make it larger"),
        "{text}"
    );
    assert!(text.ends_with("1 failed, 1 warnings\n"), "{text}");
}

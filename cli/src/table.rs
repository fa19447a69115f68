//! Tables of text: columns as wide as their widest cell.

/// Lays out rows under a head, each line indented by two; empty without rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|i| {
            all()
                .filter_map(|r| r.get(i))
                .map(|c| c.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    all().map(|row| line(row, &widths)).collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .map(|(cell, &width)| format!("{cell:<width$}"))
        .collect();
    format!("  {}\n", cells.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["a".into(), "1".into()],
            vec!["longer".into(), "2".into()],
        ];
        assert_eq!(
            table(&["N", "V"], &rows),
            "  N       V\n  a       1\n  longer  2\n"
        );
    }

    #[test]
    fn table_without_rows_is_nothing() {
        assert_eq!(table(&["N"], &[]), "");
    }
}

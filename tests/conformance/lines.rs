lines! { kernel =>
}

<?php
// What modules opened with RTLD_DEEPBIND allocate, PHP frees, and the other way round.

$tokens = 0;
for ($i = 0; $i < 50; $i++) {
    foreach (PhpToken::tokenize(str_repeat(file_get_contents(__FILE__), 4)) as $token) {
        $tokens += strlen($token->getTokenName() ?? '');
    }
}
echo "tokens $tokens\n";

$phar = new Phar(getcwd() . '/archive.phar');
for ($i = 0; $i < 200; $i++) {
    $phar["file$i.txt"] = str_repeat("line $i of many\n", $i);
}
$phar->stopBuffering();
unset($phar);
echo 'phar ', strlen(file_get_contents('phar://' . getcwd() . '/archive.phar/file199.txt')), "\n";

try {
    new PDO('no-such-driver:memory');
    echo "pdo connected\n";
} catch (PDOException $refused) {
    echo 'pdo ', $refused->getMessage(), ' ', count(PDO::getAvailableDrivers()), "\n";
}

$words = [];
for ($i = 0; $i < 100000; $i++) {
    $words["key $i"] = json_decode(json_encode(['value' => $i, 'text' => str_repeat('x', $i % 50)]));
}
for ($i = 0; $i < 100000; $i += 2) {
    unset($words["key $i"]);
}
echo 'words ', count($words), ' ', md5(serialize($words)), "\n";

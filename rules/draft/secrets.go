package draft

import (
	"slices"
	"strings"
	"unicode"
)

// secretWords are words of a column's name that speak of a secret, or of what an attacker
// could make one from. One word too many costs a line that its owner deletes; one too few
// puts passwords into a cache.
var secretWords = map[string]bool{
	"password": true, "passwords": true, "passwd": true, "passcode": true, "passphrase": true, "pwd": true, "pw": true, "secret": true, "secrets": true,
	"token": true, "tokens": true, "salt": true, "hash": true, "hashed": true, "digest": true, "ssn": true, "pin": true, "otp": true, "totp": true, "hotp": true,
	"mfa": true, "2fa": true, "cvv": true, "cvv2": true, "cvc": true, "cvc2": true, "credential": true, "credentials": true, "apikey": true, "privatekey": true,
	"cardnumber": true, "creditcard": true, "encrypted": true, "cipher": true, "ciphertext": true, "nonce": true, "iban": true, "signature": true,
}

// secretPairs are the same for two words that stand side by side.
var secretPairs = [][2]string{
	{"api", "key"}, {"private", "key"}, {"secret", "key"}, {"access", "key"}, {"signing", "key"}, {"encryption", "key"}, {"master", "key"}, {"session", "key"},
	{"card", "number"}, {"card", "no"}, {"credit", "card"}, {"account", "number"}, {"routing", "number"}, {"passport", "number"}, {"social", "security"},
	{"national", "id"}, {"tax", "id"}, {"recovery", "code"}, {"recovery", "codes"}, {"backup", "code"}, {"backup", "codes"}, {"security", "answer"}, {"pass", "word"}, {"pass", "phrase"}, {"pass", "code"}, {"one", "time"},
}

// secretParts are found inside longer words too ("userpassword").
var secretParts = []string{"password", "passwd", "passphrase", "secret", "apikey", "privatekey", "accesstoken", "refreshtoken"}

// isSecret says whether a column's name speaks of a secret.
func isSecret(column string) bool {
	all := words(column)
	for i, w := range all {
		if secretWords[w] || slices.ContainsFunc(secretParts, func(p string) bool { return strings.Contains(w, p) }) {
			return true
		}
		if i > 0 && slices.Contains(secretPairs, [2]string{all[i-1], w}) {
			return true
		}
	}
	return false
}

// words splits a name at what is no letter or digit, and where camel case has a hump.
func words(name string) []string {
	var out []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			out = append(out, strings.ToLower(string(word)))
		}
		word = nil
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
			continue
		case i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			end()
		}
		word = append(word, r)
	}
	end()
	return out
}

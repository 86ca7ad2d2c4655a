package link

// WriteControl writes bytes to the control stream that need not be messages.
func WriteControl(c *Conn, b []byte) { _, _ = c.control.w.Write(b) }

// WriteLane writes bytes to a lane that need not be messages.
func WriteLane(c *Conn, b []byte) { _, _ = c.lanes[0].w.Write(b) }

// TellCertificate tells the peer the certificate that it has.
func TellCertificate(c *Conn) {
	_ = c.control.appendCertificate(c.t.credentials.Load().leaf.Certificate[0])
	c.control.Flush()
}

// DecryptPKCS8 is with a bound on the iterations, so that fuzzing is quick.
func DecryptPKCS8(der, passphrase []byte, maxIterations int) ([]byte, error) {
	return decryptPKCS8(der, passphrase, maxIterations)
}

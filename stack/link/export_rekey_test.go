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
